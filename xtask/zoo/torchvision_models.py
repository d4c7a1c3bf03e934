"""Every builder of torchvision but the quantised ones, whose networks are the same."""

import contextlib

import torch
import torchvision.models as models
import torchvision.models.video.mvit as mvit

# Small pictures: widths do not depend on them.
PIXELS = 96
# Builders whose last pooling or attention fits one size only.
FULL_SIZE = ("alexnet", "vgg", "maxvit")
# Those that are exported again, with the new exporter and with a free batch.
AGAIN = (
    "resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "densenet121",
    "googlenet", "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_32",
    "deeplabv3_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "r3d_18", "raft_small",
)
# Those that are exported once more to an old operator set, with weights that are inputs too.
OLD = ("resnet18", "mobilenet_v2", "densenet121", "googlenet", "shufflenet_v2_x1_0", "squeezenet1_1", "vgg11_bn")
EXPORTERS = ("dynamo", "free", "old")
KINDS = {
    "segmentation": models.segmentation,
    "detection": models.detection,
    "video": models.video,
    "optical_flow": models.optical_flow,
}


def names() -> list[tuple[str, str]]:
    """Returns each builder with its family."""
    found = [(name, "classification") for name in models.list_models(module=models)]
    for kind, module in KINDS.items():
        found += [(name, kind) for name in models.list_models(module=module)]
    return found


def again(name: str, exporter: str) -> bool:
    """Returns whether an exporter is tried too; detectors take one picture."""
    if exporter == "old":
        return name in OLD
    return name in AGAIN and not (exporter == "free" and name.startswith("fasterrcnn"))


def free_axes(inputs: dict) -> dict:
    """Returns the axes without a fixed extent."""
    return {name: {0: "batch"} for name in inputs}


class First(torch.nn.Module):
    """Gives tensors where a network gives a dictionary or a list."""

    def __init__(self, model: torch.nn.Module, kind: str):
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, *inputs):
        if self.kind == "detection":
            (found,) = self.model([inputs[0]])
            return tuple(found.values())
        if self.kind == "optical_flow":
            # Twelve rounds by default, all with the same weights.
            return self.model(*inputs, num_flow_updates=2)[-1]
        found = self.model(*inputs)
        return tuple(found.values()) if isinstance(found, dict) else found


def build(name: str):
    """Returns the network, its inputs by name, and the names of its outputs."""
    kind = dict(names())[name]
    wanted = {"weights": None}
    if kind in ("segmentation", "detection"):
        wanted["weights_backbone"] = None
    if name.startswith("vit_"):
        wanted["image_size"] = 56 if name.endswith("_14") else 64
    if name in ("googlenet", "inception_v3"):
        wanted["init_weights"] = False
    if kind == "detection":
        wanted |= _detector(name)
    with small_video(name):
        model = models.get_model(name, **wanted).eval()
    if kind in ("segmentation", "detection", "optical_flow"):
        model = First(model, kind)
    return model, _inputs(name, kind)


@contextlib.contextmanager
def small_video(name: str):
    """Makes networks of short, small videos, where a builder fixes their size: at full size an
    export takes more memory than there is."""
    made = mvit.MViT
    if name.startswith("mvit"):
        mvit.MViT = lambda **given: made(**(given | {"spatial_size": (64, 64), "temporal_size": 8}))
    try:
        yield
    finally:
        mvit.MViT = made


def _detector(name: str) -> dict:
    # Random weights are sure of nothing: without these no box would come out.
    few = {"topk_candidates": 30, "detections_per_img": 20, "score_thresh": 0.0}
    if name.startswith("ssd"):
        return few
    size = {"min_size": 128, "max_size": 128}
    if name.startswith(("retinanet", "fcos")):
        return few | size
    return size | {
        "rpn_pre_nms_top_n_test": 60,
        "rpn_post_nms_top_n_test": 30,
        "box_detections_per_img": 10,
        "box_score_thresh": 0.0,
    }


def _inputs(name: str, kind: str) -> dict[str, torch.Tensor]:
    if kind == "detection":
        pixels = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}.get(name, 128)
        return {"image": torch.rand(3, pixels, pixels)}
    if kind == "optical_flow":
        pair = torch.rand(2, 1, 3, 128, 128) * 2 - 1
        return {"image1": pair[0], "image2": pair[1]}
    if kind == "video":
        frames, pixels = 8, 64
        if name == "s3d":
            frames, pixels = 16, 224
        return {"video": torch.randn(1, 3, frames, pixels, pixels)}
    pixels = PIXELS
    if name.startswith(FULL_SIZE):
        pixels = 224
    if name.startswith("vit_"):
        pixels = 56 if name.endswith("_14") else 64
    return {"image": torch.randn(1, 3, pixels, pixels)}
