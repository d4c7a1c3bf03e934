//! Shapes of recurrent ops.

use super::{Context, Types, typed};
use crate::op::{Recurrent, RecurrentKind};
use crate::{Dim, GraphError};

pub(super) fn recurrent(cx: &Context<'_>, r: &Recurrent) -> Result<Types, GraphError> {
    let dtype = cx.dtype(0);
    let directions = Dim::Fixed(r.direction.count());
    let hidden = Dim::Fixed(r.hidden_size);
    let rows = Dim::Fixed(r.n_gates().saturating_mul(r.hidden_size));
    for (port, what) in [(1, "W"), (2, "R")] {
        if let Some(shape) = cx.shape(port) {
            let fits = matches!(shape, [d, g, _] if *d == directions && *g == rows);
            if !fits && shape.iter().all(|d| d.fixed().is_some()) {
                return Err(cx.error(format!("{what} does not fit hidden_size {}", r.hidden_size)));
            }
        }
    }
    let Some(x) = cx.shape(0) else {
        return Ok(vec![typed(dtype, None); 3]);
    };
    let [a, b, n_in] = x else {
        return Err(cx.error(format!("the input has {} axes, 3 are needed", x.len())));
    };
    if let (Some(n), Some(Some(m))) = (
        n_in.fixed(),
        cx.shape(1).and_then(|w| w.get(2)).map(Dim::fixed),
    ) && n != m
    {
        return Err(cx.error(format!("the input has {n} features, W reads {m}")));
    }
    let (y, h) = if r.batch_first {
        let y = vec![a.clone(), b.clone(), directions.clone(), hidden.clone()];
        (y, vec![a.clone(), directions, hidden])
    } else {
        let y = vec![a.clone(), directions.clone(), b.clone(), hidden.clone()];
        (y, vec![directions, b.clone(), hidden])
    };
    let mut types = vec![typed(dtype, Some(y)), typed(dtype, Some(h.clone()))];
    if r.kind == RecurrentKind::Lstm {
        types.push(typed(dtype, Some(h)));
    }
    Ok(types)
}
