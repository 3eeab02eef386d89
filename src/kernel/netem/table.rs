//! Tables of jitter: the kernel draws an entry, and adds that many times the jitter to the delay.
//!
//! They are computed, since the files of iproute2 may not be part of ours. On average an entry is as far from theirs as
//! the tests say.

use std::f64::consts::PI;
use std::sync::OnceLock;

use crate::netem::Distribution;

/// As many as the files have; NETEM_DIST_MAX is four times that.
const ENTRIES: u32 = 4096;

/// What an entry has for one jitter (NETEM_DIST_SCALE).
const SCALE: f64 = 8192.0;

/// The entries in ascending order, each in the middle of its share; None for what the kernel does without a table. A
/// table is computed once: hundreds of links may have the same.
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
    // The conversion stops at the bounds of the type, as the files do.
    shares.map(|it| (entry(it) * SCALE).round() as i16).collect()
}

/// From one jitter too early to one too late.
fn uniform(share: f64) -> f64 {
    2.0 * share - 1.0
}

/// Of mean 0 and standard deviation 1: Newton's steps to where the area under the bell curve is `share`. They start
/// in the middle and never go too far, since the curve falls from there on.
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

/// More than the outermost entry takes.
const STEPS: usize = 20;

/// A thousandth of what an entry can tell.
const CLOSE: f64 = 1e-3 / SCALE;

/// The area from 0 to `x` under the bell curve, over its height at `x`: x + x³/3 + x⁵/(3·5) + …
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

/// Of shape 3, moved to mean 0 and brought to the files' width.
fn pareto(share: f64) -> f64 {
    ((1.0 - share).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0
}
