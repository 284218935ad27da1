//! A claim, and the class by which it gets its volume.

use crate::{
    document::{ClaimDocument, ClassDocument},
    labels::{Labels, Selector, Text, Texts},
    quantity::Quantity,
    requests,
};

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) uid: Text,
    /// Empty where no class is asked for.
    pub(crate) class: Text,
    /// How much it asks for; nothing where it doesn't say.
    pub(crate) size: Option<Quantity>,
    pub(crate) access_modes: Vec<Text>,
    pub(crate) wants: Wants,
    /// The labels that its volume must have.
    pub(crate) selector: Option<Selector>,
    /// The volume that it is, or is to be, bound to.
    pub(crate) volume: Option<Text>,
    /// Whether the binding is complete.
    pub(crate) is_bound: bool,
    /// The node for which a volume is being provisioned.
    pub(crate) selected_node: Option<Text>,
    pub(crate) is_lost: bool,
    pub(crate) is_terminating: bool,
    /// The UID of the object that controls it.
    pub(crate) owner: Option<Text>,
    /// What of it can't be read.
    pub(crate) fault: Option<String>,
}

/// What a claim and its volume must have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// `Filesystem` or `Block`.
    pub(crate) volume_mode: Text,
    /// The class of its attributes; empty where there is none.
    pub(crate) attributes_class: Text,
}

impl Wants {
    pub(crate) fn read(mode: Option<&String>, attributes_class: Option<&String>, texts: &mut Texts) -> Self {
        Self {
            volume_mode: texts.share(mode.map_or("Filesystem", |mode| mode)),
            attributes_class: texts.share(attributes_class.map_or("", |class| class)),
        }
    }
}

impl Claim {
    pub(crate) fn read(document: &ClaimDocument, texts: &mut Texts) -> Self {
        let ClaimDocument { metadata, spec, status } = document;
        let mut fault = None;
        let size = requests::read(&spec.resources.requests).map(|amounts| amounts.0.get("storage").copied());
        let size = size.unwrap_or_else(|why| {
            fault = Some(format!("spec.resources.requests: {why}"));
            None
        });
        let selector = Selector::read(spec.selector.as_ref(), texts).unwrap_or_else(|operator| {
            fault = Some(format!("spec.selector: operator {operator} isn't known"));
            None
        });
        let controller = metadata.owner_references.iter().find(|owner| owner.controller == Some(true));
        Self {
            uid: metadata.uid.as_str().into(),
            class: texts.share(metadata.class(spec.storage_class_name.as_ref())),
            size,
            access_modes: spec.access_modes.iter().map(|mode| texts.share(mode)).collect(),
            wants: Wants::read(spec.volume_mode.as_ref(), spec.volume_attributes_class_name.as_ref(), texts),
            selector,
            volume: spec.volume_name.as_deref().filter(|name| !name.is_empty()).map(|name| texts.share(name)),
            is_bound: metadata.annotations.contains_key("pv.kubernetes.io/bind-completed"),
            selected_node: metadata.annotations.get(SELECTED_NODE).map(|node| texts.share(node)),
            is_lost: status.phase.as_deref() == Some("Lost"),
            is_terminating: metadata.deletion_timestamp.is_some(),
            owner: controller.map(|owner| texts.share(&owner.uid)),
            fault,
        }
    }

    /// The volume that it is bound to, if it is.
    pub(crate) fn bound_volume(&self) -> Option<&Text> {
        self.volume.as_ref().filter(|_| self.is_bound)
    }
}

/// The annotation of a claim that says for which node its volume is to be made.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A StorageClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) provisioner: Text,
    pub(crate) mode: BindingMode,
    /// Where volumes can be provisioned: one of these must hold. None hold everywhere.
    topologies: Vec<Vec<(Text, Vec<Text>)>>,
}

/// When claims of a class are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BindingMode {
    Immediate,
    /// With the first pod that uses them.
    WaitsForConsumer,
    /// The class doesn't say.
    Unset,
}

impl Class {
    pub(crate) fn read(document: &ClassDocument, texts: &mut Texts) -> Self {
        let terms = document.allowed_topologies.iter().map(|term| {
            let expressions = term.match_label_expressions.iter().map(|expression| {
                let values = expression.values.iter().map(|value| texts.share(value)).collect();
                (texts.share(&expression.key), values)
            });
            expressions.collect()
        });
        Self {
            topologies: terms.collect(),
            provisioner: texts.share(&document.provisioner),
            mode: match document.volume_binding_mode.as_deref() {
                None => BindingMode::Unset,
                Some("WaitForFirstConsumer") => BindingMode::WaitsForConsumer,
                Some(_) => BindingMode::Immediate,
            },
        }
    }

    /// Whether it has somebody who makes volumes.
    pub(crate) fn provisions(&self) -> bool {
        !matches!(&*self.provisioner, "" | "kubernetes.io/no-provisioner")
    }

    /// Whether volumes can be made for nodes with these labels.
    pub(crate) fn allows(&self, labels: &Labels) -> bool {
        let holds =
            |(key, values): &(Text, Vec<Text>)| labels.get(key).is_some_and(|value| values.contains(value));
        self.topologies.is_empty()
            || self.topologies.iter().any(|term| !term.is_empty() && term.iter().all(holds))
    }
}
