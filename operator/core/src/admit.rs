//! Whether a job may start an attempt: its queue, its prices, its budget. Judged before anything is created.

use std::collections::BTreeMap;

use plasma_api::{ComputeJobSpec, ComputeQueue, compute_job::Role, compute_queue::Billing};
use plasma_types::Xpl;

use crate::{
    most::{devices, most},
    refusal::Refusal,
};

/// How long containers may go on after their pod's time is up, where the template doesn't say: Kubernetes' own default.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// What earlier attempts cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The sum of the receipts, in wei.
    pub recorded: Xpl,
    /// How many pods of each role ran and have no receipt yet: what they cost is unknown, which isn't nothing.
    pub unrecorded: BTreeMap<String, u32>,
}

/// Whether the job may start an attempt now, having spent `spent` before, in a cluster that `settles` or doesn't.
///
/// # Errors
/// Why not.
pub fn admit(
    spec: &ComputeJobSpec,
    namespace: &str,
    queue: Option<&ComputeQueue>,
    spent: &Spent,
    settles: bool,
) -> Result<(), Refusal> {
    let queue = queue.ok_or_else(|| Refusal::QueueNotFound(spec.queue.clone()))?;
    if !queue.spec.namespaces.iter().any(|served| served == namespace) {
        return Err(Refusal::NamespaceNotServed {
            queue: spec.queue.clone(),
            namespace: namespace.to_owned(),
        });
    }
    for role in &spec.roles {
        devices(role)?;
    }
    match &queue.spec.billing {
        None => Ok(()),
        // Its pods would wait for their receipts forever.
        Some(_) if !settles => Err(Refusal::NoSettlement(spec.queue.clone())),
        Some(billing) => admit_cost(spec, billing, spent),
    }
}

fn admit_cost(spec: &ComputeJobSpec, billing: &Billing, spent: &Spent) -> Result<(), Refusal> {
    let ceiling = spec.max_price_per_gpu_hour.ok_or(Refusal::LimitsMissing("spec.maxPricePerGpuHour"))?;
    let budget = spec.budget.ok_or(Refusal::LimitsMissing("spec.budget"))?;
    let (mut worst, mut pending) = (Xpl::ZERO, Xpl::ZERO);
    for role in &spec.roles {
        let Some(most) = most(role, billing)? else { continue };
        if most.price > ceiling {
            return Err(Refusal::PriceTooHigh { role: role.name.clone(), price: most.price, ceiling });
        }
        let seconds = longest_run(spec, role);
        let of_pods = |pods: u128| most.cost(pods, seconds);
        let replicas = u128::try_from(role.replicas).unwrap_or(0);
        let unrecorded = spent.unrecorded.get(&role.name).copied().unwrap_or(0);
        worst = add(worst, of_pods(replicas));
        pending = add(pending, of_pods(u128::from(unrecorded)));
    }
    let left = budget.saturating_sub(spent.recorded);
    if worst > left {
        return Err(Refusal::BudgetTooSmall { worst, left });
    }
    if add(worst, Some(pending)) > left {
        return Err(Refusal::ReceiptsPending(spent.unrecorded.values().sum()));
    }
    Ok(())
}

/// The longest that a pod of the role may hold its GPUs, in seconds: at the end of its time its containers are asked to
/// end, and only after the grace period made to.
fn longest_run(spec: &ComputeJobSpec, role: &Role) -> u128 {
    let grace = role.template.spec.as_ref().and_then(|pod| pod.termination_grace_period_seconds);
    let grace = grace.unwrap_or(DEFAULT_GRACE_SECONDS).max(0);
    u128::try_from(spec.max_runtime_seconds.saturating_add(grace)).unwrap_or(0)
}

/// A sum that can't be told is more than anybody has.
fn add(sum: Xpl, cost: Option<Xpl>) -> Xpl {
    cost.and_then(|cost| sum.checked_add(cost)).unwrap_or(Xpl::from_wei(u128::MAX))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use plasma_api::names::{GPU_PRODUCT_LABEL, GPU_RESOURCE};

    use super::*;
    use crate::fixtures::{job, queue};

    fn reason(job: &plasma_api::ComputeJob, queue: Option<&ComputeQueue>, spent: &str) -> &'static str {
        reason_after(job, queue, &Spent { recorded: spent.parse().unwrap(), ..Spent::default() })
    }

    fn reason_after(
        job: &plasma_api::ComputeJob,
        queue: Option<&ComputeQueue>,
        spent: &Spent,
    ) -> &'static str {
        admit(&job.spec, "team", queue, spent, true).map_or_else(|refusal| refusal.reason(), |()| "admitted")
    }

    #[test]
    fn a_job_needs_a_queue_that_serves_its_namespace() {
        assert_eq!(reason(&job(), Some(&queue()), "0"), "admitted");
        assert_eq!(reason(&job(), None, "0"), "QueueNotFound");
        let mut other = queue();
        other.spec.namespaces = vec!["elsewhere".to_owned()];
        assert_eq!(reason(&job(), Some(&other), "0"), "NamespaceNotServed");
    }

    #[test]
    fn the_budget_must_cover_every_pod_to_its_limit_beside_what_was_spent() {
        // Two pods with one GPU each, an hour and 30 seconds' grace each, at 3.6 XPL an hour: 7.26 XPL; the budget is 8.
        assert_eq!(reason(&job(), Some(&queue()), "0.74"), "admitted");
        assert_eq!(reason(&job(), Some(&queue()), "0.740000000000000001"), "BudgetTooSmall");
        let mut longer = job();
        longer.spec.max_runtime_seconds = 36_000;
        assert_eq!(reason(&longer, Some(&queue()), "0"), "BudgetTooSmall");
    }

    #[test]
    fn a_grace_period_is_paid_for_and_so_must_fit_the_budget() {
        let with_grace = |seconds| {
            let mut job = job();
            let pod = job.spec.roles[0].template.spec.as_mut().unwrap();
            pod.termination_grace_period_seconds = Some(seconds);
            job
        };
        // At 0.001 XPL a second and GPU: 7.2 XPL for the hour, and 0.8 for two pods of 400 seconds' grace.
        assert_eq!(reason(&with_grace(400), Some(&queue()), "0"), "admitted");
        assert_eq!(reason(&with_grace(401), Some(&queue()), "0"), "BudgetTooSmall");
        assert_eq!(
            reason(&with_grace(i64::MAX), Some(&queue()), "0"),
            "BudgetTooSmall",
            "more than a number holds"
        );
        assert_eq!(
            reason(&with_grace(-1), Some(&queue()), "0.8"),
            "admitted",
            "Kubernetes takes it for one second or none"
        );
    }

    #[test]
    fn the_price_of_the_chosen_model_counts_else_the_dearest() {
        let mut dear = queue();
        let billing = dear.spec.billing.as_mut().unwrap();
        billing.prices.push(plasma_api::compute_queue::Price {
            gpu_product: Some("H100".to_owned()),
            price_per_gpu_hour: "5".parse().unwrap(),
        });
        assert_eq!(reason(&job(), Some(&dear), "0"), "PriceTooHigh");
        let mut cheap = job();
        let spec = cheap.spec.roles[0].template.spec.as_mut().unwrap();
        spec.node_selector = Some([(GPU_PRODUCT_LABEL.to_owned(), "T4".to_owned())].into());
        assert_eq!(reason(&cheap, Some(&dear), "0"), "admitted");
    }

    #[test]
    fn without_billing_nothing_about_money_is_asked() {
        let mut free = queue();
        free.spec.billing = None;
        let mut job = job();
        (job.spec.budget, job.spec.max_price_per_gpu_hour) = (None, None);
        assert_eq!(reason(&job, Some(&free), "0"), "admitted");
        assert_eq!(reason(&job, Some(&queue()), "0"), "LimitsMissing");
    }

    #[test]
    fn a_pod_without_a_receipt_may_have_cost_all_that_it_could() {
        let unrecorded =
            |pods| Spent { unrecorded: [("worker".to_owned(), pods)].into(), ..Spent::default() };
        // An attempt may cost 7.26 of 8; a pod that ran, 3.63.
        assert_eq!(reason_after(&job(), Some(&queue()), &unrecorded(1)), "ReceiptsPending");
        let mut rich = job();
        rich.spec.budget = Some("10.89".parse().unwrap());
        assert_eq!(reason_after(&rich, Some(&queue()), &unrecorded(1)), "admitted");
        assert_eq!(reason_after(&rich, Some(&queue()), &unrecorded(2)), "ReceiptsPending");
    }

    #[test]
    fn a_queue_that_bills_takes_no_job_where_nobody_settles() {
        let (job, mut queue) = (job(), queue());
        let ask = |queue: &ComputeQueue| admit(&job.spec, "team", Some(queue), &Spent::default(), false);
        assert_eq!(ask(&queue), Err(Refusal::NoSettlement("research".to_owned())));
        queue.spec.billing = None;
        assert_eq!(ask(&queue), Ok(()));
    }

    #[test]
    fn gpus_of_init_containers_are_paid_for_too() {
        let mut hidden = job();
        let spec = hidden.spec.roles[0].template.spec.as_mut().unwrap();
        let mut container = spec.containers[0].clone();
        let limits = container.resources.as_mut().unwrap();
        limits.limits = Some([(GPU_RESOURCE.to_owned(), Quantity("2".to_owned()))].into());
        spec.init_containers = Some(vec![container]);
        assert_eq!(crate::most::gpus(&hidden.spec.roles[0]), 2, "one after the other");
        assert_eq!(reason(&hidden, Some(&queue()), "0"), "BudgetTooSmall");
    }

    #[test]
    fn a_fraction_of_a_gpu_is_refused() {
        let mut job = job();
        let limits =
            job.spec.roles[0].template.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
        limits.limits = Some([(GPU_RESOURCE.to_owned(), Quantity("500m".to_owned()))].into());
        assert_eq!(reason(&job, Some(&queue()), "0"), "InvalidGpuRequest");
    }
}
