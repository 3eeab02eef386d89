//! Distribution tables: the kernel draws an entry, multiplies it by the jitter and adds it to the delay.
//!
//! They are computed, because the files of iproute2 have another license. The tests give the average difference from
//! them.

use std::f64::consts::PI;
use std::sync::OnceLock;

use crate::netem::Distribution;

/// As many as in the files of iproute2; NETEM_DIST_MAX is four times that.
const ENTRIES: u32 = 4096;

/// The entry that stands for one jitter (NETEM_DIST_SCALE).
const SCALE: f64 = 8192.0;

/// The entries of a table in ascending order; None: uniform. Each table is computed once, because hundreds of links may
/// use it.
pub(super) fn of(distribution: Option<Distribution>) -> &'static [i16] {
    static TABLES: [OnceLock<Vec<i16>>; 4] = [const { OnceLock::new() }; 4];
    let [uniform, normal, pareto, pareto_normal] = &TABLES;
    let table = match distribution {
        None => uniform,
        Some(Distribution::Normal) => normal,
        Some(Distribution::Pareto) => pareto,
        Some(Distribution::ParetoNormal) => pareto_normal,
    };
    table.get_or_init(|| compute(distribution))
}

fn compute(distribution: Option<Distribution>) -> Vec<i16> {
    let entry = |share: f64| match distribution {
        None => uniform(share),
        Some(Distribution::Normal) => normal(share),
        Some(Distribution::Pareto) => pareto(share),
        Some(Distribution::ParetoNormal) => 0.75 * pareto(share) + 0.25 * normal(share),
    };
    let shares = (0..ENTRIES).map(|it| (f64::from(it) + 0.5) / f64::from(ENTRIES));
    // The conversion clips at the bounds of the type, like the files.
    shares.map(|it| (entry(it) * SCALE).round() as i16).collect()
}

/// Between minus one and plus one jitter.
fn uniform(share: f64) -> f64 {
    2.0 * share - 1.0
}

/// The normal distribution with mean 0 and standard deviation 1: Newton's method for the point where the area under the
/// curve is `share`. It starts in the middle and never overshoots, because the curve falls from there.
fn normal(share: f64) -> f64 {
    let wanted = share - 0.5;
    let mut x = 0.0_f64;
    for _ in 0..STEPS {
        let height = (-x * x / 2.0).exp() / (2.0 * PI).sqrt();
        let step = wanted / height - area(x);
        x += step;
        if step.abs() < CLOSE {
            break;
        }
    }
    x
}

/// More steps than the outermost entry needs.
const STEPS: usize = 20;

/// A thousandth of the resolution of an entry.
const CLOSE: f64 = 1e-3 / SCALE;

/// The area under the curve from 0 to `x`, divided by its height at `x`: x + x³/3 + x⁵/(3·5) + …
fn area(x: f64) -> f64 {
    let mut sum = 0.0;
    let mut term = x;
    let mut odd = 1.0;
    while term.abs() > CLOSE {
        sum += term;
        odd += 2.0;
        term *= x * x / odd;
    }
    sum
}

/// The Pareto distribution of shape 3, shifted to mean 0 and scaled like the files.
fn pareto(share: f64) -> f64 {
    ((1.0 - share).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0
}
