//! The part of the recipe that trains under attack.

use regraft_train::{Adversary, Attack, AttackMethod};
use serde::{Deserialize, Serialize};

use super::FitRecipe;
use crate::Error;
use crate::evaluate::checked_clip;

/// What samples are attacked with while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitAttackName {
    /// Nothing.
    #[default]
    None,
    /// One step along the sign of the gradient (Goodfellow et al. 2015).
    Fgsm,
    /// Projected gradient descent from a random start (Madry et al. 2018).
    Pgd,
    /// Gaussian noise.
    Noise,
}

impl FitRecipe {
    /// Checks what decides about attacks.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for an attack without its strength, or a strength without an attack.
    pub(super) fn check_attack(&self) -> Result<(), Error> {
        match (self.attack, self.attack_eps) {
            (FitAttackName::None, Some(_)) => {
                return Err(Error::usage("`attack_eps` is given and no attack")
                    .with_hint("name one: --attack fgsm, pgd or noise"));
            }
            (FitAttackName::None, None) | (_, Some(_)) => {}
            (_, None) => {
                return Err(Error::usage("the attack has no `attack_eps`").with_hint(
                    "say how far samples may move, for pixels from 0 to 1: --attack-eps 0.1",
                ));
            }
        }
        checked_clip(self.attack_clip)
    }

    /// Returns the attack on the samples, if there is one.
    pub(super) fn adversary(&self) -> Option<Adversary> {
        let method = match self.attack {
            FitAttackName::None => return None,
            FitAttackName::Fgsm => AttackMethod::Fgsm,
            FitAttackName::Pgd => AttackMethod::Pgd,
            FitAttackName::Noise => AttackMethod::Noise,
        };
        Some(Adversary {
            attack: Attack {
                norm: self.attack_norm.into(),
                steps: self.attack_steps,
                step_size: self.attack_step_size,
                ..Attack::new(method, self.attack_eps?)
            },
            share: self.attack_share,
            clip: self.attack_clip,
        })
    }

    /// Returns the attack in words, if there is one.
    pub(super) fn attack_in_words(&self) -> Option<String> {
        let eps = self.attack_eps?;
        let share = match self.attack_share {
            1.0 => String::new(),
            share => format!(" on {share} of each batch"),
        };
        Some(match self.attack {
            FitAttackName::None => return None,
            FitAttackName::Fgsm => format!("fgsm, eps {eps}{share}"),
            FitAttackName::Pgd => format!("pgd, eps {eps}, {} steps{share}", self.attack_steps),
            FitAttackName::Noise => format!("noise, deviation {eps}{share}"),
        })
    }
}
