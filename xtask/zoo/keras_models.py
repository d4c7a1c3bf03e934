"""Keras applications, a small one of each family, and small networks of the layers that they lack, exported
by tf2onnx: channels last and transposed around convolutions, recurrent layers as ONNX's or as loops."""

import os

import running

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

APPLICATIONS = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception",
)
# Small pictures: widths do not depend on them.
PIXELS = 96
# Operator sets by exporter: `old` is one that tf2onnx has long written. The batch is free, as Keras leaves it, but for `fixed`.
OPSETS = {"any": 15, "old": 9, "fixed": 15}
AGAIN = {
    "old": ("MobileNetV2", "ResNet50", "conv1d", "autoencoder"),
    "fixed": ("MobileNetV2", "DenseNet121", "EfficientNetB0", "unet", "separable", "text_cnn", "transformer"),
}
EXPORTERS = tuple(AGAIN)
WIDTH = 32
STEPS = 12
SAMPLES = 16


def names() -> list[tuple[str, str]]:
    """Returns each network with its family."""
    return [(name, "application") for name in APPLICATIONS] + [(name, "layers") for name in BUILDERS]


def again(name: str, exporter: str) -> bool:
    """Returns whether an exporter is tried too."""
    return name in AGAIN.get(exporter, ())


def picture(pixels: int = 32, channels: int = 3):
    import keras

    return keras.Input((pixels, pixels, channels))


def unet():
    import keras
    from keras import layers

    x = start = picture()
    skips = []
    for width in (WIDTH // 2, WIDTH):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(2 * WIDTH, 3, padding="same", activation="relu")(x)
    for width in (WIDTH, WIDTH // 2):
        x = layers.Conv2DTranspose(width, 2, strides=2)(x)
        x = layers.Concatenate()([x, skips.pop()])
        x = layers.Conv2D(width, 3, padding="same", activation="elu")(x)
    x = layers.UpSampling2D(interpolation="bilinear")(layers.AveragePooling2D(2)(x))
    return keras.Model(start, layers.Conv2D(4, 1, activation="softmax")(x))


def separable():
    import keras
    from keras import layers

    x = start = picture()
    x = layers.ZeroPadding2D(1)(layers.Rescaling(0.5)(x))
    for width in (WIDTH, 2 * WIDTH):
        x = layers.SeparableConv2D(width, 3, strides=2, depth_multiplier=2)(x)
        x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
        squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
        squeezed = layers.Dense(width // 4, activation="swish")(squeezed)
        x = layers.Multiply()([x, layers.Dense(width, activation="hard_sigmoid")(squeezed)])
    x = layers.GroupNormalization(4)(layers.Conv2D(WIDTH, 3)(x))
    return keras.Model(start, layers.Dense(10)(layers.Flatten()(layers.SpatialDropout2D(0.1)(x))))


def conv1d():
    import keras
    from keras import layers

    x = start = keras.Input((64, 12))
    for rate in (1, 2, 4):
        y = layers.Conv1D(WIDTH, 3, padding="causal", dilation_rate=rate, activation="swish")(x)
        x = layers.Add()([layers.Conv1D(WIDTH, 1)(x), y])
    x = layers.LayerNormalization()(layers.MaxPooling1D()(x))
    return keras.Model(start, layers.Dense(5)(layers.GlobalMaxPooling1D()(x)))


def autoencoder():
    import keras
    from keras import layers

    x = start = keras.Input((96,))
    for width in (64, 16, 64):
        x = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(layers.Dense(width)(x)))
    return keras.Model(start, layers.Dense(96)(x))


def _cells(first, second):
    import keras
    from keras import layers

    start = keras.Input((STEPS, 20))
    x = second(first(layers.Dense(WIDTH, activation="tanh")(start)))
    return keras.Model(start, layers.Dense(7, activation="softmax")(x))


def lstm():
    from keras import layers

    return _cells(layers.LSTM(WIDTH, return_sequences=True), layers.LSTM(WIDTH // 2))


def gru():
    from keras import layers

    return _cells(layers.GRU(WIDTH, return_sequences=True), layers.GRU(WIDTH // 2))


def rnn():
    from keras import layers

    return _cells(layers.SimpleRNN(WIDTH, return_sequences=True), layers.SimpleRNN(WIDTH // 2))


def bidirectional():
    from keras import layers

    both = lambda n, whole: layers.Bidirectional(layers.LSTM(n, return_sequences=whole))
    return _cells(both(WIDTH, True), both(WIDTH // 2, False))


def text_cnn():
    import keras
    from keras import layers

    start = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(50, WIDTH)(start)
    parts = [layers.GlobalMaxPooling1D()(layers.Conv1D(WIDTH, n, activation="relu")(x)) for n in (2, 3)]
    return keras.Model(start, layers.Dense(4)(layers.Concatenate()(parts)))


def transformer():
    import keras
    from keras import layers

    start = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(50, WIDTH)(start)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, WIDTH // 4)(y, y)])
        y = layers.Dense(4 * WIDTH)(layers.LayerNormalization()(x))
        y = keras.activations.gelu(y, approximate=True)
        x = layers.Add()([x, layers.Dense(WIDTH)(y)])
    return keras.Model(start, layers.Dense(6)(layers.GlobalAveragePooling1D()(x)))


BUILDERS = {
    function.__name__: function
    for function in (unet, separable, conv1d, autoencoder, lstm, gru, rnn, bidirectional, text_cnn, transformer)
}


def build(name: str):
    """Returns the network with fresh weights."""
    import keras

    if name in BUILDERS:
        return BUILDERS[name]()
    options = {"weights": None, "input_shape": (PIXELS, PIXELS, 3), "classes": 100, "classifier_activation": None}
    return getattr(keras.applications, name)(**options)


def randomize(model, inputs: list, seed: int) -> None:
    """Gives constant weights random values and normalisations close to the statistics of some inputs."""
    import keras
    import numpy

    generator = numpy.random.default_rng(seed)
    for layer in model._flatten_layers():
        # What is no variable would become an input of the written network.
        for name in ("mean", "variance"):
            if isinstance(layer, keras.layers.Normalization):
                setattr(layer, name, numpy.array(getattr(layer, name)))
    for weight in model.trainable_weights:
        values = numpy.array(weight)
        if values.size > 1 and (values == values.flat[0]).all():
            noise = generator.random(values.shape, dtype="float32")
            weight.assign(0.2 * (noise - 0.5) if values.flat[0] == 0.0 else 0.5 + noise)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    for layer in norms:
        layer.momentum = 0.0
    many = [numpy.concatenate([_like(x, generator) for _ in range(SAMPLES)]) for x in inputs]
    model(many if len(many) > 1 else many[0], training=True)
    for layer in norms:
        layer.momentum = 0.99
        mean, variance = numpy.array(layer.moving_mean), numpy.array(layer.moving_variance)
        off = lambda: generator.random(mean.shape, dtype="float32")
        floor = max(1e-4, 0.05 * float(variance.mean()))
        variance = numpy.maximum(variance, floor)
        layer.moving_mean.assign(mean + 0.2 * numpy.sqrt(variance) * (off() - 0.5))
        layer.moving_variance.assign(variance * (0.75 + 0.5 * off()))


def _like(x, generator):
    if x.dtype.kind == "f":
        return generator.standard_normal(x.shape, dtype="float32")
    return generator.integers(0, 50, x.shape).astype(x.dtype)


def export(arguments) -> dict:
    """Writes `model.onnx` and `inputs.npz`; returns what happened."""
    import keras
    import numpy
    import tensorflow as tf
    import tf2onnx

    tf.config.threading.set_intra_op_parallelism_threads(1)
    keras.utils.set_random_seed(arguments.seed)
    model = build(arguments.name)
    generator = numpy.random.default_rng(arguments.seed)
    batch = 1 if arguments.exporter == "fixed" else None
    signature = [
        tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=f"input{i}")
        for i, tensor in enumerate(model.inputs)
    ]
    like = lambda spec: numpy.zeros((1, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
    inputs = [_like(like(spec), generator) for spec in signature]
    randomize(model, inputs, arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    named = {spec.name: value for spec, value in zip(signature, inputs)}
    numpy.savez(arguments.folder / "inputs.npz", **named)
    run = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), input_signature=signature)
    path = arguments.folder / "model.onnx"
    result = {"exporter": None, "parameters": int(model.count_params()), "failed": {}}
    try:
        tf2onnx.convert.from_function(run, signature, opset=OPSETS[arguments.exporter], output_path=str(path))
        running.require_running(path, named)
    except Exception as error:  # noqa: BLE001: an exporter may raise anything
        result["failed"]["tf2onnx"] = running.in_one_line(error)
    else:
        result["exporter"] = "tf2onnx" if arguments.exporter == "any" else arguments.exporter
    return result
