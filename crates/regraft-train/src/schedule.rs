//! The learning rate over the steps of a run.

use crate::TrainError;

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// By a factor at equal shares of the run.
    Step {
        /// Number of falls.
        times: usize,
        /// Factor of each.
        factor: f64,
    },
    /// Along half a cosine to zero (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5 with one
    /// period).
    #[default]
    Cosine,
    /// Up from a twenty-fifth to the peak at 30 % of the run, then down along a cosine (Smith and
    /// Topin, Super-convergence, 2018).
    OneCycle,
}

/// The learning rate at every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// How it falls.
    pub decay: Decay,
    /// Share of the run in which it rises from zero in a straight line; not of a one-cycle run, which rises
    /// by itself.
    pub warm_up: f64,
    /// Share of the run until which it stays at the peak, before it falls; not of a one-cycle run.
    pub hold: f64,
}

/// The share of a one-cycle run in which the rate rises, and the part of the peak it starts from.
const RISE: f64 = 0.3;
const START: f64 = 1.0 / 25.0;

impl Schedule {
    /// Returns the rate of `step` of `total`, from 0.
    pub fn rate(&self, step: usize, total: usize) -> f64 {
        let share = step as f64 / total.max(1) as f64;
        let falling = |from: f64| {
            let part = ((share - from) / (1.0 - from).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
            f64::midpoint(1.0, (std::f64::consts::PI * part).cos())
        };
        let rises = self.decay != Decay::OneCycle;
        if rises && self.warm_up > 0.0 && share < self.warm_up {
            let steps = self.warm_up * total as f64;
            return self.peak * ((step + 1) as f64 / steps).min(1.0);
        }
        if rises && share < self.hold {
            return self.peak;
        }
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Step { times, factor } => {
                let falls = (share * (times + 1) as f64).floor().min(times as f64);
                self.peak * factor.powf(falls)
            }
            Decay::Cosine => self.peak * falling(self.warm_up.max(self.hold)),
            Decay::OneCycle if share < RISE => self.peak * (START + (1.0 - START) * share / RISE),
            Decay::OneCycle => self.peak * falling(RISE),
        }
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if !(self.peak > 0.0 && self.peak.is_finite()) {
            return Err(TrainError::Setting {
                name: "learning_rate",
                value: self.peak,
                range: "should be above zero",
            });
        }
        if !(0.0..1.0).contains(&self.warm_up) {
            return Err(TrainError::Setting {
                name: "warm_up",
                value: self.warm_up,
                range: "should be a share of the run, at least 0 and below 1",
            });
        }
        if !(0.0..1.0).contains(&self.hold) {
            return Err(TrainError::Setting {
                name: "hold",
                value: self.hold,
                range: "should be a share of the run, at least 0 and below 1",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let held = |decay, warm_up, hold| -> Vec<f64> {
            let schedule = Schedule {
                peak: 1.0,
                decay,
                warm_up,
                hold,
            };
            (0..=8).map(|s| schedule.rate(s, 8)).collect()
        };
        let rates = |decay, warm_up| held(decay, warm_up, 0.0);
        // One cycle rises by itself, whatever else is asked for.
        assert_eq!(
            held(Decay::OneCycle, 0.02, 0.5),
            rates(Decay::OneCycle, 0.0)
        );
        let late = held(Decay::Cosine, 0.0, 0.5);
        assert_eq!((late[3], late[4]), (1.0, 1.0));
        assert!((late[6] - 0.5).abs() < 1e-12 && late[8].abs() < 1e-12);
        assert_eq!(rates(Decay::Constant, 0.0), [1.0; 9]);
        let cosine = rates(Decay::Cosine, 0.0);
        assert!((cosine[4] - 0.5).abs() < 1e-12 && cosine[8].abs() < 1e-12);
        let steps = rates(
            Decay::Step {
                times: 3,
                factor: 0.1,
            },
            0.0,
        );
        assert_eq!((steps[0], steps[1], steps[8]), (1.0, 1.0, 0.1f64.powi(3)));
        assert!((steps[2] - 0.1).abs() < 1e-12, "{steps:?}");
        let warm = rates(Decay::Cosine, 0.5);
        assert_eq!((warm[0], warm[3], warm[4]), (0.25, 1.0, 1.0));
        let cycle = rates(Decay::OneCycle, 0.0);
        assert!(
            cycle[0] < 0.05 && cycle[2] > 0.8 && cycle[8].abs() < 1e-12,
            "{cycle:?}"
        );
    }
}
