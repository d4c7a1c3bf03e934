//! Moments of channels, and the distribution of weights.

mod distribution;
mod moments;

pub use distribution::{
    BoxPlot, Extremum, ExtremumKind, Histogram, box_plot, histogram, local_extrema, quantile,
};
pub use moments::ChannelMoments;
