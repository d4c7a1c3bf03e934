"""The smallest model of every module of timm, and a few more where a module holds several designs."""

import timm
import torch

# Module of timm and the models of it that are tried, the smallest one first.
MODELS = {
    "beit": ["beit_base_patch16_224"],
    "byoanet": ["halonet_h1", "lambda_resnet26t", "sebotnet33ts_256", "botnet26t_256"],
    "byobnet": ["mobileone_s1", "repvgg_a0", "gernet_s", "resnet51q"],
    "cait": ["cait_xxs24_224"],
    "coat": ["coat_tiny"],
    "convit": ["convit_tiny"],
    "convmixer": ["convmixer_768_32"],
    "convnext": ["convnext_atto_rms"],
    "cpubone": ["cpubone_nano"],
    "crossvit": ["crossvit_tiny_240"],
    "csatv2": ["csatv2"],
    "cspnet": ["cs3darknet_focus_s"],
    "cspnext": ["cspnext_tiny"],
    "davit": ["davit_tiny"],
    "deepseek_vit": ["deepseek_vit_412m"],
    "deit": ["deit_tiny_patch16_224"],
    "densenet": ["densenet121"],
    "dla": ["dla46x_c", "dla34"],
    "dpn": ["dpn48b"],
    "edgenext": ["edgenext_xx_small"],
    "efficientformer": ["efficientformer_l1"],
    "efficientformer_v2": ["efficientformerv2_s0"],
    "efficientnet": ["mnasnet_small", "efficientnet_b0", "mixnet_s", "mobilenetv2_050", "efficientnet_lite0"],
    "efficientvim": ["efficientvim_m1"],
    "efficientvit_mit": ["efficientvit_b0"],
    "efficientvit_msra": ["efficientvit_m0"],
    "eva": ["vit_tiny_patch16_dinov3_qkvb", "eva02_tiny_patch14_224"],
    "fasternet": ["fasternet_t0"],
    "fastvit": ["fastvit_t8"],
    "focalnet": ["focalnet_tiny_srf"],
    "gcvit": ["gcvit_xxtiny"],
    "gemma4_vit": ["gemma4_vit_167m"],
    "ghostnet": ["ghostnet_050"],
    "hardcorenas": ["hardcorenas_b"],
    "hgnet": ["hgnetv2_b0"],
    "hiera": ["hiera_tiny_224"],
    "hieradet_sam2": ["sam2_hiera_tiny"],
    "hrnet": ["hrnet_w18_small"],
    "iformer": ["iformer_t"],
    "inception_next": ["inception_next_atto"],
    "inception_resnet_v2": ["inception_resnet_v2"],
    "inception_v3": ["inception_v3"],
    "inception_v4": ["inception_v4"],
    "lcnetv2": ["lcnetv2_small"],
    "levit": ["levit_128s"],
    "lowformer": ["lowformer_b0"],
    "mambaout": ["mambaout_femto"],
    "maxxvit": ["maxvit_pico_rw_256", "coatnet_pico_rw_224"],
    "metaformer": ["poolformerv2_s12", "caformer_s18", "convformer_s18"],
    "mlp_mixer": ["gmlp_ti16_224", "mixer_s32_224", "resmlp_12_224"],
    "mobilenetv3": ["mobilenetv3_small_050", "mobilenetv4_conv_small", "fbnetv3_b"],
    "mobilenetv5": ["mobilenetv5_base"],
    "mobilevit": ["mobilevit_xxs"],
    "mvitv2": ["mvitv2_tiny"],
    "naflexvit": ["naflexvit_base_patch16_parfac_gap"],
    "nasnet": ["nasnetalarge"],
    "nest": ["nest_tiny"],
    "nextvit": ["nextvit_small"],
    "nfnet": ["nf_regnet_b0", "dm_nfnet_f0", "nf_resnet26"],
    "pit": ["pit_ti_224"],
    "pnasnet": ["pnasnet5large"],
    "pvt_v2": ["pvt_v2_b0"],
    "qwen3_vit": ["qwen3_vit_88m"],
    "rdnet": ["rdnet_tiny"],
    "regnet": ["regnetx_002", "regnety_002"],
    "repghost": ["repghostnet_050"],
    "repvit": ["repvit_m1"],
    "res2net": ["res2next50"],
    "resnest": ["resnest14d"],
    "resnet": ["resnet18", "ecaresnet26t", "seresnet18", "resnet26d"],
    "resnetv2": ["resnetv2_18"],
    "rexnet": ["rexnet_100"],
    "selecsls": ["selecsls42"],
    "senet": ["legacy_seresnet18"],
    "sequencer": ["sequencer2d_s"],
    "shvit": ["shvit_s1"],
    "sknet": ["skresnet18"],
    "starnet": ["starnet_s050"],
    "swiftformer": ["swiftformer_xs"],
    "swin_transformer": ["swin_tiny_patch4_window7_224"],
    "swin_transformer_v2": ["swinv2_tiny_window16_256"],
    "swin_transformer_v2_cr": ["swinv2_cr_tiny_224"],
    "tiny_vit": ["tiny_vit_5m_224"],
    "tnt": ["tnt_s_legacy_patch16_224"],
    "tresnet": ["tresnet_m"],
    "twins": ["twins_svt_small"],
    "vgg": ["vgg11"],
    "visformer": ["visformer_tiny"],
    "vision_transformer": ["vit_tiny_patch16_224", "vit_little_patch16_reg1_gap_256"],
    "vision_transformer_hybrid": ["vit_tiny_r_s16_p8_224"],
    "vision_transformer_relpos": ["vit_srelpos_small_patch16_224"],
    "vision_transformer_sam": ["samvit_base_patch16_224"],
    "vitamin": ["vitamin_small_224"],
    "volo": ["volo_d1_224"],
    "vovnet": ["ese_vovnet19b_slim_dw"],
    "xception": ["legacy_xception"],
    "xception_aligned": ["xception41p"],
    "xcit": ["xcit_nano_12_p8_224"],
}
# Pixels where a network takes any size.
PIXELS = 96


def names() -> list[tuple[str, str]]:
    """Returns each model with its module."""
    return [(name, module) for module, found in MODELS.items() for name in found]


def again(name: str, exporter: str) -> bool:
    """Returns whether an exporter is tried too: every tenth network."""
    at = [known for known, _ in names()].index(name)
    return at % 10 == (0 if exporter == "dynamo" else 5)


def free_axes(inputs: dict) -> dict:
    """Returns the axes without a fixed extent."""
    return {name: {0: "batch"} for name in inputs}


def build(name: str):
    """Returns the network and its inputs by name: small pictures where it takes them."""
    model = timm.create_model(name, pretrained=False).eval()
    channels, *size = model.pretrained_cfg.get("input_size") or (3, 224, 224)
    small = torch.randn(1, channels, PIXELS, PIXELS)
    if not model.pretrained_cfg.get("fixed_input_size"):
        try:
            with torch.no_grad():
                model(small)
            return model, {"image": small}
        except (RuntimeError, AssertionError, ValueError, TypeError):
            pass
    return model, {"image": torch.randn(1, channels, *size)}
