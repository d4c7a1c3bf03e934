//! Steps down a gradient.

use crate::TrainError;

/// How weights move along their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent; weight decay is part of the gradient.
    Sgd {
        /// Share of the last step that goes on.
        momentum: f32,
        /// True to look ahead along it (Nesterov; Sutskever et al., ICML 2013).
        nesterov: bool,
    },
    /// Adam (Kingma and Ba, ICLR 2015, algorithm 1); weight decay is part of the gradient.
    Adam,
    /// Adam with weight decay apart from the gradient (Loshchilov and Hutter, ICLR 2019, algorithm
    /// 2).
    AdamW,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd {
            momentum: 0.9,
            nesterov: true,
        }
    }
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// What one step is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The learning rate.
    pub(crate) rate: f32,
    /// The number of the step, from 1.
    pub(crate) number: usize,
    /// Factor of the weights in the gradient of the weight decay.
    pub(crate) l2: f32,
    /// Factor of their signs.
    pub(crate) l1: f32,
}

impl Optimizer {
    pub(crate) fn check(self) -> Result<(), TrainError> {
        match self {
            Self::Sgd { momentum, .. } if !(0.0..1.0).contains(&momentum) => {
                Err(TrainError::Setting {
                    name: "momentum",
                    value: f64::from(momentum),
                    range: "should be at least 0 and below 1",
                })
            }
            _ => Ok(()),
        }
    }

    /// True if second moments are kept.
    pub(crate) fn is_adaptive(self) -> bool {
        matches!(self, Self::Adam | Self::AdamW)
    }

    /// Moves `weights` along `gradient`, both of one length with `first` and `second`, which hold the
    /// moments.
    pub(crate) fn step(
        self,
        step: Step,
        weights: &mut [f32],
        gradient: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let Step { rate, l2, l1, .. } = step;
        match self {
            Self::Sgd { momentum, nesterov } => {
                for ((w, g), m) in weights.iter_mut().zip(gradient).zip(first) {
                    let g = g + l2 * *w + l1 * sign(*w);
                    *m = momentum * *m + g;
                    *w -= rate * if nesterov { g + momentum * *m } else { *m };
                }
            }
            Self::Adam | Self::AdamW => {
                let t = i32::try_from(step.number).unwrap_or(i32::MAX);
                let (c1, c2) = (1.0 - BETA1.powi(t), 1.0 - BETA2.powi(t));
                let apart = self == Self::AdamW;
                let moments = first.iter_mut().zip(second);
                for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
                    let decay = l2 * *w;
                    let g = g + l1 * sign(*w) + if apart { 0.0 } else { decay };
                    *m = BETA1 * *m + (1.0 - BETA1) * g;
                    *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                    let direction = (*m / c1) / ((*v / c2).sqrt() + EPSILON);
                    *w -= rate * (direction + if apart { decay } else { 0.0 });
                }
            }
        }
    }
}

/// The sign, 0 at 0.
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps of each, computed by hand from the papers' equations.
    #[test]
    fn steps_are_those_of_the_papers() {
        let run = |optimizer: Optimizer, l2: f32| {
            let (mut w, mut m, mut v) = ([1.0f32], [0.0f32], [0.0f32]);
            for number in 1..=2 {
                let step = Step {
                    rate: 0.1,
                    number,
                    l2,
                    l1: 0.0,
                };
                optimizer.step(step, &mut w, &[0.5], &mut m, &mut v);
            }
            w[0]
        };
        let sgd = |nesterov| Optimizer::Sgd {
            momentum: 0.9,
            nesterov,
        };
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(run(sgd(false), 0.0), 1.0 - 0.05 - 0.095);
        near(run(sgd(true), 0.0), 1.0 - 0.095 - 0.1355);
        // Both moments are corrected to 0.5 and 0.25: each step is the rate.
        near(run(Optimizer::Adam, 0.0), 0.8);
        near(
            run(Optimizer::AdamW, 0.1),
            (1.0 - 0.1 - 0.01) - 0.1 - 0.0089,
        );
    }
}
