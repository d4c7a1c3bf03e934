//! Which of many overlapping boxes stay.

use super::Inputs;
use super::elementwise::numbers;
use super::index::whole;
use crate::error::{OpResult, invalid};
use crate::value::{Array, Value};

/// A box by its corners.
#[derive(Clone, Copy, Debug)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
}

impl Corners {
    fn new(numbers: &[f32], center_point: bool) -> Self {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| numbers.get(i).copied().unwrap_or(0.0));
        if center_point {
            // Centre x, centre y, width, height.
            Self {
                low: [b - d / 2.0, a - c / 2.0],
                high: [b + d / 2.0, a + c / 2.0],
            }
        } else {
            // Any two opposite corners.
            Self {
                low: [a.min(c), b.min(d)],
                high: [a.max(c), b.max(d)],
            }
        }
    }

    fn area(&self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Returns the share of the union that both cover.
    fn overlap(&self, other: &Self) -> f32 {
        let side = |i: usize| {
            let low = self.low[i].max(other.low[i]);
            (self.high[i].min(other.high[i]) - low).max(0.0)
        };
        let both = side(0) * side(1);
        let union = self.area() + other.area() - both;
        if both > 0.0 && union > 0.0 {
            both / union
        } else {
            0.0
        }
    }
}

fn threshold(inputs: &mut Inputs, port: usize) -> OpResult<Option<f32>> {
    let given = inputs.optional_float(port)?;
    let first = |t: crate::engine::Float| t.into_vec().ok().and_then(|v| v.first().copied());
    Ok(given.and_then(first))
}

pub(super) fn non_max_suppression(center_point: bool, inputs: &mut Inputs) -> OpResult<Value> {
    let (boxes, scores) = (inputs.float(0)?, inputs.float(1)?);
    let (boxes_shape, scores_shape) = (boxes.shape(), scores.shape());
    let ([n, count, 4], [m, classes, per_class]) = (&boxes_shape[..], &scores_shape[..]) else {
        return invalid(format!("boxes {boxes_shape:?}, scores {scores_shape:?}"));
    };
    if n != m || count != per_class {
        return invalid(format!("boxes {boxes_shape:?}, scores {scores_shape:?}"));
    }
    let limit = match inputs.optional(2) {
        Some(limit) => usize::try_from(whole(limit)?).unwrap_or(0),
        None => 0,
    };
    let most_overlap = threshold(inputs, 3)?.unwrap_or(0.0);
    let least_score = threshold(inputs, 4)?;
    let boxes = numbers(boxes)?;
    let scores = numbers(scores)?;
    let mut kept = Vec::new();
    for sample in 0..*n {
        let corners: Vec<Corners> = boxes[sample * count * 4..][..count * 4]
            .chunks_exact(4)
            .map(|numbers| Corners::new(numbers, center_point))
            .collect();
        for class in 0..*classes {
            let own = &scores[(sample * classes + class) * count..][..*count];
            let mut order: Vec<usize> = (0..*count)
                .filter(|&i| least_score.is_none_or(|least| own[i] > least))
                .collect();
            order.sort_by(|&a, &b| own[b].total_cmp(&own[a]));
            let mut chosen: Vec<usize> = Vec::new();
            for i in order {
                if chosen.len() >= limit {
                    break;
                }
                let free = |&j: &usize| corners[i].overlap(&corners[j]) <= most_overlap;
                if chosen.iter().all(free) {
                    chosen.push(i);
                    kept.extend([sample as i64, class as i64, i as i64]);
                }
            }
        }
    }
    Ok(Value::Int(Array::new(vec![kept.len() / 3, 3], kept)))
}
