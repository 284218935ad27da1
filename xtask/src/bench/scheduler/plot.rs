//! Bars as SVG: panels side by side, in each of them groups of bars, and one legend for all.

use std::fmt::Write as _;

/// One scale and one title.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) groups: Vec<Group>,
}

/// Bars that stand together, over their name.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// A bar; its colour is that of the legend's entry.
pub(super) struct Bar {
    pub(super) colour: usize,
    pub(super) height: f64,
}

/// Told apart by people who see few colours, too (Okabe and Ito).
const COLOURS: [&str; 5] = ["#999999", "#0072b2", "#56b4e9", "#009e73", "#e69f00"];
/// Pixels.
const PANEL: f64 = 430.0;
const HEIGHT: f64 = 260.0;
const TOP: f64 = 50.0;
const LEFT: f64 = 30.0;
const LEGEND_LINE: f64 = 20.0;
/// Of a group's width, what its bars take.
const BARS: f64 = 0.85;

/// The plot.
pub(super) fn draw(panels: &[Panel], legend: &[&str]) -> String {
    let width = LEFT + PANEL * count(panels.len());
    let below = TOP + HEIGHT + 45.0;
    let height = below + LEGEND_LINE * count(legend.len());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, panel) in (0..).zip(panels) {
        draw_panel(&mut svg, panel, LEFT + PANEL * f64::from(number));
    }
    for ((number, name), colour) in (0..).zip(legend).zip(COLOURS) {
        let y = below + LEGEND_LINE * f64::from(number);
        rectangle(&mut svg, (LEFT, y - 11.0), (12.0, 12.0), colour);
        text(&mut svg, (LEFT + 18.0, y), "start", name);
    }
    svg += "</svg>\n";
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, left: f64) {
    text(svg, (left, TOP - 25.0), "start", panel.title);
    let bars = panel.groups.iter().flat_map(|group| &group.bars);
    let highest = bars.map(|bar| bar.height).fold(0.0, f64::max);
    let group_width = (PANEL - 30.0) / count(panel.groups.len().max(1));
    for (number, group) in (0..).zip(&panel.groups) {
        let x = left + group_width * f64::from(number);
        draw_group(svg, group, x, group_width * BARS, highest);
        text(svg, (x + group_width * BARS / 2.0, TOP + HEIGHT + 18.0), "middle", &group.name);
    }
    let bottom = TOP + HEIGHT;
    let _ = writeln!(svg, "<path d=\"M{left:.1} {bottom:.1}h{:.1}\" stroke=\"black\"/>", PANEL - 30.0);
}

fn draw_group(svg: &mut String, group: &Group, left: f64, width: f64, highest: f64) {
    let bar_width = width / count(group.bars.len().max(1));
    for (number, bar) in (0..).zip(&group.bars) {
        let height = if highest > 0.0 { HEIGHT * bar.height / highest } else { 0.0 };
        let (x, y) = (left + bar_width * f64::from(number), TOP + HEIGHT - height);
        let colour = COLOURS.get(bar.colour).copied().unwrap_or("black");
        rectangle(svg, (x, y), (bar_width * 0.9, height), colour);
        let value = if highest < 10.0 { format!("{:.2}", bar.height) } else { format!("{:.0}", bar.height) };
        text(svg, (x + bar_width * 0.45, y - 4.0), "middle", &value);
    }
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

/// The text is ours: there is nothing to escape.
fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_panel_and_half_of_it_half() {
        let bars = vec![Bar { colour: 0, height: 50.0 }, Bar { colour: 1, height: 100.0 }];
        let panel = Panel { title: "rate", groups: vec![Group { name: "a".to_owned(), bars }] };
        let svg = draw(&[panel], &["one", "two"]);
        for (height, colour) in [(130.0, COLOURS[0]), (260.0, COLOURS[1])] {
            assert!(svg.contains(&format!("height=\"{height:.1}\" fill=\"{colour}\"")), "{svg}");
        }
        assert!(svg.contains(">two</text>") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_is_drawn_without_a_height() {
        let bars = vec![Bar { colour: 9, height: 0.0 }];
        let svg = draw(&[Panel { title: "rate", groups: vec![Group { name: "a".to_owned(), bars }] }], &[]);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
