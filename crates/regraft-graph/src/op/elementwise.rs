//! Elementwise ops.

/// A function of one input without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnaryOp {
    /// Max(x, 0).
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// |x|.
    Abs,
    /// -x.
    Neg,
    /// Exp(x).
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / x.
    Reciprocal,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
    /// Nearest integer, halves to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// Every bit of an integer negated.
    BitwiseNot,
    /// Error function.
    Erf,
    /// Log(1 + exp(x)).
    Softplus,
    /// X / (1 + |x|).
    Softsign,
    /// X * clamp(x / 6 + 1/2, 0, 1).
    HardSwish,
    /// X * tanh(softplus(x)).
    Mish,
    /// Logical negation.
    Not,
    /// X itself.
    Identity,
}

impl UnaryOp {
    /// Every operation of this family.
    pub const ALL: &[Self] = &[
        Self::Relu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Abs,
        Self::Neg,
        Self::Exp,
        Self::Log,
        Self::Sqrt,
        Self::Reciprocal,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Sign,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::BitwiseNot,
        Self::Erf,
        Self::Softplus,
        Self::Softsign,
        Self::HardSwish,
        Self::Mish,
        Self::Not,
        Self::Identity,
    ];

    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Abs => "Abs",
            Self::Neg => "Neg",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Sign => "Sign",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::BitwiseNot => "BitwiseNot",
            Self::Erf => "Erf",
            Self::Softplus => "Softplus",
            Self::Softsign => "Softsign",
            Self::HardSwish => "HardSwish",
            Self::Mish => "Mish",
            Self::Not => "Not",
            Self::Identity => "Identity",
        }
    }
}

/// A function of two broadcast inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BinaryOp {
    /// A + b.
    Add,
    /// A - b.
    Sub,
    /// A * b.
    Mul,
    /// A / b.
    Div,
    /// A to the power of b.
    Pow,
    /// Remainder with the sign of b.
    Mod,
    /// Remainder with the sign of a (`Mod` with `fmod`).
    Fmod,
    /// Bits of both integers.
    BitwiseAnd,
    /// Bits of either integer.
    BitwiseOr,
    /// Bits of exactly one integer.
    BitwiseXor,
    /// A with its bits moved up by b (`BitShift`).
    ShiftLeft,
    /// A with its bits moved down by b (`BitShift`).
    ShiftRight,
}

impl BinaryOp {
    /// Every operation of this family.
    pub const ALL: &[Self] = &[
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Pow,
        Self::Mod,
        Self::Fmod,
        Self::BitwiseAnd,
        Self::BitwiseOr,
        Self::BitwiseXor,
        Self::ShiftLeft,
        Self::ShiftRight,
    ];

    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Mod | Self::Fmod => "Mod",
            Self::BitwiseAnd => "BitwiseAnd",
            Self::BitwiseOr => "BitwiseOr",
            Self::BitwiseXor => "BitwiseXor",
            Self::ShiftLeft | Self::ShiftRight => "BitShift",
        }
    }
}

/// A function of one or more broadcast inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariadicOp {
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Sum.
    Sum,
    /// Mean.
    Mean,
}

impl VariadicOp {
    /// Every operation of this family.
    pub const ALL: &[Self] = &[Self::Max, Self::Min, Self::Sum, Self::Mean];

    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Sum => "Sum",
            Self::Mean => "Mean",
        }
    }
}

/// A comparison or logical function of two broadcast inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompareOp {
    /// A = b.
    Equal,
    /// A > b.
    Greater,
    /// A < b.
    Less,
    /// A >= b.
    GreaterOrEqual,
    /// A <= b.
    LessOrEqual,
    /// Both.
    And,
    /// At least one.
    Or,
    /// Exactly one.
    Xor,
}

impl CompareOp {
    /// Every operation of this family.
    pub const ALL: &[Self] = &[
        Self::Equal,
        Self::Greater,
        Self::Less,
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::And,
        Self::Or,
        Self::Xor,
    ];

    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Greater => "Greater",
            Self::Less => "Less",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::LessOrEqual => "LessOrEqual",
            Self::And => "And",
            Self::Or => "Or",
            Self::Xor => "Xor",
        }
    }
}

/// A function of one input with parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x` above zero, `alpha * x` below.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `x` above zero, `alpha * (exp(x) - 1)` below.
    Elu {
        /// Limit below zero, negated.
        alpha: f32,
    },
    /// `gamma` times an ELU.
    Selu {
        /// Limit below zero, negated.
        alpha: f32,
        /// Factor of the whole.
        gamma: f32,
    },
    /// `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`.
    Celu {
        /// Scale below zero.
        alpha: f32,
    },
    /// `clamp(alpha * x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` above `alpha`, else 0.
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
    /// Gaussian error linear unit.
    Gelu {
        /// True for the tanh approximation.
        tanh: bool,
    },
    /// `x * sigmoid(alpha * x)`.
    Swish {
        /// Factor inside.
        alpha: f32,
    },
    /// `x - bias` above `lambd`, `x + bias` below `-lambd`, else 0.
    Shrink {
        /// Half the width of the gap.
        lambd: f32,
        /// How far the rest moves towards zero.
        bias: f32,
    },
}

impl Activation {
    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Elu { .. } => "Elu",
            Self::Selu { .. } => "Selu",
            Self::Celu { .. } => "Celu",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::Gelu { .. } => "Gelu",
            Self::Swish { .. } => "Swish",
            Self::Shrink { .. } => "Shrink",
        }
    }
}

/// A question about each float, answered by truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatTest {
    /// Is it not a number?
    Nan,
    /// Is it infinite?
    Infinite {
        /// True if minus infinity counts.
        negative: bool,
        /// True if plus infinity counts.
        positive: bool,
    },
}

impl FloatTest {
    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nan => "IsNaN",
            Self::Infinite { .. } => "IsInf",
        }
    }
}
