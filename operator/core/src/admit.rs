//! Whether a job may start an attempt: its queue, its prices, its budget. Judged before anything is created.

use std::{collections::BTreeMap, fmt};

use plasma_api::{
    ComputeJobSpec, ComputeQueue, NotWhole, compute_job::Role, compute_queue::Billing,
    names::GPU_PRODUCT_LABEL,
};
use plasma_types::{PricePerGpuHour, Xpl};

/// What earlier attempts cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The sum of the receipts, in wei.
    pub recorded: Xpl,
    /// How many pods of each role ran and have no receipt yet: what they cost is unknown, which isn't nothing.
    pub unrecorded: BTreeMap<String, u32>,
}

/// Why a job may not start. Each names the object, the rule and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue doesn't exist.
    QueueNotFound(String),
    /// The queue doesn't serve the job's namespace.
    NamespaceNotServed {
        /// The queue.
        queue: String,
        /// The job's namespace.
        namespace: String,
    },
    /// The queue bills, and nobody here could settle.
    NoSettlement(String),
    /// The queue bills, and the job doesn't say what it may cost.
    LimitsMissing(&'static str),
    /// A GPU of a role costs more than the job allows.
    PriceTooHigh {
        /// The role.
        role: String,
        /// What a GPU costs an hour.
        price: PricePerGpuHour,
        /// What the job allows.
        ceiling: PricePerGpuHour,
    },
    /// The queue has no price for a role's GPU.
    NoPrice {
        /// The role.
        role: String,
        /// The model that its node selector names.
        model: String,
    },
    /// An attempt could cost more than is left of the budget.
    BudgetTooSmall {
        /// What an attempt costs if every pod runs to its limit.
        worst: Xpl,
        /// What is left.
        left: Xpl,
    },
    /// The budget covers the attempt only if pods that ran before cost less than they may; their receipts will say.
    ReceiptsPending(u32),
    /// An object that the job needs exists and isn't the job's.
    NameTaken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A GPU request that is no whole number.
    GpuRequest {
        /// The role.
        role: String,
        /// What it asks for.
        fault: NotWhole,
    },
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QueueNotFound(_) => "QueueNotFound",
            Self::NamespaceNotServed { .. } => "NamespaceNotServed",
            Self::NoSettlement(_) => "NoSettlement",
            Self::LimitsMissing(_) => "LimitsMissing",
            Self::PriceTooHigh { .. } => "PriceTooHigh",
            Self::NoPrice { .. } => "NoPrice",
            Self::BudgetTooSmall { .. } => "BudgetTooSmall",
            Self::ReceiptsPending(_) => "ReceiptsPending",
            Self::NameTaken { .. } => "NameTaken",
            Self::GpuRequest { .. } => "InvalidGpuRequest",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueNotFound(queue) => {
                write!(
                    f,
                    "spec.queue: ComputeQueue {queue} doesn't exist: name another, or ask an admin to make it"
                )
            }
            Self::NamespaceNotServed { queue, namespace } => write!(
                f,
                "spec.queue: ComputeQueue {queue} doesn't serve namespace {namespace}: name another, or ask an admin to add it"
            ),
            Self::NoSettlement(queue) => write!(
                f,
                "spec.queue: ComputeQueue {queue} bills, and this cluster has no settlement: install it \
                 (settlement.enabled), or name a queue without billing"
            ),
            Self::LimitsMissing(field) => {
                write!(f, "{field} is needed, since the queue bills: say what the job may cost")
            }
            Self::PriceTooHigh { role, price, ceiling } => write!(
                f,
                "spec.maxPricePerGpuHour: a GPU of role {role} costs {price} XPL an hour, the job allows {ceiling}"
            ),
            Self::NoPrice { role, model } => {
                write!(
                    f,
                    "role {role}: the queue has no price for GPU model {model}: choose another model or queue"
                )
            }
            Self::BudgetTooSmall { worst, left } => write!(
                f,
                "spec.budget: an attempt may cost {worst} XPL, and {left} are left: raise it, or lower \
                 maxRuntimeSeconds, replicas or GPUs"
            ),
            Self::ReceiptsPending(pods) => write!(
                f,
                "spec.budget: waiting for the receipts of {pods} pods of earlier attempts, which decide whether \
                 another attempt fits; raise it to go on at once"
            ),
            Self::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and isn't this job's: rename the job, or delete that object")
            }
            Self::GpuRequest { role, fault } => write!(f, "role {role}: {fault}"),
        }
    }
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
        gpus(role)?;
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
        let gpus = gpus(role)?;
        if gpus == 0 {
            continue;
        }
        let price = price_of(role, billing)?;
        if price > ceiling {
            return Err(Refusal::PriceTooHigh { role: role.name.clone(), price, ceiling });
        }
        let seconds = u128::try_from(spec.max_runtime_seconds).unwrap_or(0);
        let of_pods =
            |pods: u128| Xpl::from_wei(price.per_second().0).checked_mul(u128::from(gpus) * pods * seconds);
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

/// A sum that can't be told is more than anybody has.
fn add(sum: Xpl, cost: Option<Xpl>) -> Xpl {
    cost.and_then(|cost| sum.checked_add(cost)).unwrap_or(Xpl::from_wei(u128::MAX))
}

/// The price of the model that the role's node selector names, else the dearest that it could get.
fn price_of(role: &Role, billing: &Billing) -> Result<PricePerGpuHour, Refusal> {
    let selector = role.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let model = selector.and_then(|selector| selector.get(GPU_PRODUCT_LABEL));
    let price = match model {
        Some(model) => billing.class_of(Some(model)).map(|class| billing.prices[class].price_per_gpu_hour),
        None => billing.prices.iter().map(|price| price.price_per_gpu_hour).max(),
    };
    let model = || model.cloned().unwrap_or_else(|| "(any)".to_owned());
    price.ok_or_else(|| Refusal::NoPrice { role: role.name.clone(), model: model() })
}

/// How many GPUs each pod of the role gets.
pub(crate) fn gpus(role: &Role) -> Result<u32, Refusal> {
    let Some(spec) = &role.template.spec else { return Ok(0) };
    plasma_api::gpus(spec).map_err(|fault| Refusal::GpuRequest { role: role.name.clone(), fault })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use plasma_api::names::GPU_RESOURCE;

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
        // Two pods with one GPU each, an hour each, at 3.6 XPL an hour: 7.2 XPL; the budget is 8.
        assert_eq!(reason(&job(), Some(&queue()), "0.8"), "admitted");
        assert_eq!(reason(&job(), Some(&queue()), "0.800000000000000001"), "BudgetTooSmall");
        let mut longer = job();
        longer.spec.max_runtime_seconds = 36_000;
        assert_eq!(reason(&longer, Some(&queue()), "0"), "BudgetTooSmall");
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
        // An attempt may cost 7.2 of 8; a pod that ran, 3.6.
        assert_eq!(reason_after(&job(), Some(&queue()), &unrecorded(1)), "ReceiptsPending");
        let mut rich = job();
        rich.spec.budget = Some("10.8".parse().unwrap());
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
        assert_eq!(gpus(&hidden.spec.roles[0]), Ok(2), "one after the other");
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
