//! Moments of channels, the distribution of weights, and the correlation of ranks.

mod distribution;
mod moments;
mod rank;

pub use distribution::{
    BoxPlot, Extremum, ExtremumKind, Histogram, box_plot, histogram, local_extrema, quantile,
};
pub use moments::ChannelMoments;
pub use rank::{kendall_tau, spearman};
