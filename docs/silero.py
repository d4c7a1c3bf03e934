"""What a silero voice activity network hears and says on a WAV file, in ONNX Runtime.

silero.py data DENSE.onnx SPEECH.wav OUT.npz       windows, states before each, rate: samples for `--data`
silero.py compare DENSE.onnx SMALL.onnx SPEECH.wav mean and largest difference of the probabilities

Windows of 512 samples at 16 kHz, each behind the last 64 samples of the one before; the state is carried from call to call.
Needs numpy and onnxruntime.
"""
import sys
import wave

import numpy as np
import onnxruntime as ort


def windows(path):
    with wave.open(path) as w:
        x = np.frombuffer(w.readframes(w.getnframes()), np.int16).astype(np.float32) / 32768
    context = np.zeros(64, np.float32)
    for i in range(0, len(x) - 511, 512):
        yield np.concatenate([context, x[i : i + 512]])[None]
        context = x[i + 448 : i + 512]


def listen(model, path):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(16000)
    heard, states, said = [], [], []
    for x in windows(path):
        heard.append(x)
        states.append(state)
        p, state = session.run(["output", "stateN"], {"input": x, "state": state, "sr": rate})
        said.append(p[0, 0])
    return np.concatenate(heard), np.concatenate(states, 1), np.array(said)


if __name__ == "__main__":
    if sys.argv[1] == "data":
        heard, states, _ = listen(sys.argv[2], sys.argv[3])
        np.savez(sys.argv[4], input=heard, state=states, sr=np.array(16000))
    else:
        dense, small = (listen(m, sys.argv[4])[2] for m in sys.argv[2:4])
        d = np.abs(dense - small)
        print(f"mean {d.mean():.4f}, largest {d.max():.4f}, other decisions {((dense > 0.5) != (small > 0.5)).mean():.2%}")
