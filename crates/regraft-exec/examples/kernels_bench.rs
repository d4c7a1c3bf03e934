//! Prints the time and the GFLOP/s of the convolution kernels per shape.
//!
//! Batches are small, so that one run fits into a time slice of a busy machine.
//!
//! Usage: `kernels_bench [threads] [milliseconds per shape and pass] [part of a shape's name]`

use std::time::{Duration, Instant};

use regraft_exec::kernels::{ConvShape, conv_backward_input, conv_backward_weight, conv_forward};

/// (name, batch, channels in, channels out, side, kernel, stride, groups).
const SHAPES: [(&str, [usize; 7]); 17] = [
    ("first 3-16@32", [16, 3, 16, 32, 3, 1, 1]),
    ("16-16@32", [16, 16, 16, 32, 3, 1, 1]),
    ("16-32@32 s2", [16, 16, 32, 32, 3, 2, 1]),
    ("32-32@16", [16, 32, 32, 16, 3, 1, 1]),
    ("32-64@16 s2", [16, 32, 64, 16, 3, 2, 1]),
    ("64-64@8", [16, 64, 64, 8, 3, 1, 1]),
    ("16-16@32 b4", [4, 16, 16, 32, 3, 1, 1]),
    ("11-13@32", [16, 11, 13, 32, 3, 1, 1]),
    ("23-23@16", [16, 23, 23, 16, 3, 1, 1]),
    ("64-64@56", [1, 64, 64, 56, 3, 1, 1]),
    ("128-128@28", [2, 128, 128, 28, 3, 1, 1]),
    ("256-256@14", [2, 256, 256, 14, 3, 1, 1]),
    ("512-512@7", [2, 512, 512, 7, 3, 1, 1]),
    ("64-256@56 1x1", [1, 64, 256, 56, 1, 1, 1]),
    ("stem 3-64@224", [4, 3, 64, 224, 7, 2, 1]),
    ("dw 96@56", [2, 96, 96, 56, 3, 1, 96]),
    ("dw 96@56 s2", [2, 96, 96, 56, 3, 2, 96]),
];

fn milliseconds(budget: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed() < budget {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64() * 1e3);
    }
    best
}

#[allow(clippy::print_stdout, reason = "a table for a person")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let threads: usize = args.next().map_or(Ok(2), |a| a.parse())?;
    let budget = Duration::from_millis(args.next().map_or(Ok(150), |a| a.parse())?);
    let part = args.next().unwrap_or_default();
    println!("shape\tforward ms\tinput ms\tweight ms\tforward GFLOP/s");
    for (name, [batch, c_in, c_out, side, kernel, stride, groups]) in
        SHAPES.into_iter().filter(|s| s.0.contains(&part))
    {
        let shape = ConvShape {
            batch,
            c_in,
            c_out,
            in_hw: [side; 2],
            kernel_hw: [kernel; 2],
            stride_hw: [stride; 2],
            dilation_hw: [1; 2],
            pads: [kernel / 2; 4],
            groups,
        };
        let numbers = |len: usize| -> Vec<f32> { (0..len).map(|i| (i % 17) as f32).collect() };
        let input = numbers(shape.input_len());
        let weight = numbers(shape.weight_len());
        let mut output = numbers(shape.output_len()?);
        let grad = numbers(output.len());
        let mut grad_input = numbers(input.len());
        let mut grad_weight = numbers(weight.len());
        let mut failed = Ok(());
        let forward = milliseconds(budget, || {
            failed = conv_forward(&shape, &input, &weight, None, &mut output, threads);
        });
        failed?;
        let mut failed = Ok(());
        let back = milliseconds(budget, || {
            failed = conv_backward_input(&shape, &weight, &grad, &mut grad_input, threads);
        });
        failed?;
        let mut failed = Ok(());
        let back_weight = milliseconds(budget, || {
            failed = conv_backward_weight(&shape, &input, &grad, &mut grad_weight, threads);
        });
        failed?;
        let flops = 2.0 * (output.len() * shape.patch_len()) as f64;
        println!(
            "{name}\t{forward:.3}\t{back:.3}\t{back_weight:.3}\t{:.0}",
            flops / forward / 1e6
        );
    }
    Ok(())
}
