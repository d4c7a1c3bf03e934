"""Tiny random configurations of the architectures that the transformers library is used for."""

import torch
import transformers as t

VOCABULARY = 128
TOKENS = 12
BATCH = 2

TEXT = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODER = TEXT | {"intermediate_size": 128, "max_position_embeddings": 64}
DECODER = ENCODER | {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PICTURE = {
    "image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 128, "num_labels": 10,
}
SPEECH = {
    "vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "conv_dim": (32, 32, 32), "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2), "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
PAIR = {
    "vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1,
}

# Name: what makes it, its configuration, and what it reads.
MODELS = {
    "bert": ("BertForSequenceClassification", "BertConfig", ENCODER, "text"),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", ENCODER, "text"),
    "distilbert": (
        "DistilBertForSequenceClassification", "DistilBertConfig",
        {"vocab_size": VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}, "text",
    ),
    "deberta": ("DebertaForSequenceClassification", "DebertaConfig",
                ENCODER | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, "text"),
    "deberta_v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config",
                   ENCODER | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, "text"),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig", ENCODER | {"embedding_size": 32}, "text"),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", ENCODER | {"embedding_size": 32}, "text"),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", ENCODER, "text"),
    "t5": (
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
         "decoder_start_token_id": 0}, "pair",
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", PAIR, "pair"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}, "text"),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", ENCODER, "text"),
    "opt": ("OPTForCausalLM", "OPTConfig", TEXT | {"ffn_dim": 128, "max_position_embeddings": 64,
            "word_embed_proj_dim": 64}, "text"),
    "bloom": ("BloomForCausalLM", "BloomConfig",
              {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}, "text"),
    "llama": ("LlamaForCausalLM", "LlamaConfig", DECODER, "text"),
    "mistral": ("MistralForCausalLM", "MistralConfig", DECODER, "text"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", DECODER, "text"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", DECODER | {"head_dim": 16}, "text"),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", DECODER | {"head_dim": 16}, "text"),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", DECODER | {"head_dim": 16}, "text"),
    "phi": ("PhiForCausalLM", "PhiConfig", DECODER | {"num_key_value_heads": 4}, "text"),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", DECODER, "text"),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig",
                DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2}, "text"),
    "mamba": ("MambaForCausalLM", "MambaConfig",
              {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}, "ids"),
    "vit": ("ViTForImageClassification", "ViTConfig", PICTURE, "picture"),
    "deit": ("DeiTForImageClassification", "DeiTConfig", PICTURE, "picture"),
    "beit": ("BeitForImageClassification", "BeitConfig",
             PICTURE | {"use_relative_position_bias": True, "layer_scale_init_value": 0.1}, "picture"),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", PICTURE, "picture"),
    "swin": ("SwinForImageClassification", "SwinConfig",
             {"image_size": 32, "patch_size": 2, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4],
              "window_size": 4, "num_labels": 10}, "picture"),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig",
                 {"image_size": 32, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1], "num_labels": 10},
                 "picture"),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig",
                  {"hidden_sizes": [16, 32, 48, 64], "decoder_hidden_size": 32, "depths": [1, 1, 1, 1],
                   "num_attention_heads": [1, 2, 3, 4], "num_labels": 10}, "picture64"),
    "clip": ("CLIPModel", "CLIPConfig",
             {"text_config": ENCODER | {"bos_token_id": 1, "eos_token_id": 2},
              "vision_config": PICTURE, "projection_dim": 32}, "both"),
    "siglip": ("SiglipModel", "SiglipConfig", {"text_config": ENCODER, "vision_config": PICTURE}, "both"),
    "whisper": (
        "WhisperForConditionalGeneration", "WhisperConfig",
        {k: v for k, v in PAIR.items() if k != "max_position_embeddings"}
        | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 32}, "mel",
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", SPEECH, "speech"),
    "hubert": ("HubertForCTC", "HubertConfig", SPEECH, "speech"),
}


def names() -> list[tuple[str, str]]:
    """Returns each model with its family, which is what it reads."""
    families = {"ids": "text", "pair": "text to text", "picture64": "picture", "both": "picture and text",
                "mel": "speech"}
    return [(name, families.get(row[3], row[3])) for name, row in MODELS.items()]


def again(name: str, exporter: str) -> bool:
    """Returns whether an exporter is tried too: these networks are small."""
    return name in MODELS


def free_axes(inputs: dict) -> dict:
    """Returns the axes without a fixed extent: batch, and the length of sentences."""
    lengths = {"input_ids": "length", "attention_mask": "length", "decoder_input_ids": "target"}
    batch = {name: {0: "batch"} for name in inputs}
    for name in inputs:
        if name in lengths:
            batch[name][1] = lengths[name]
    return batch


class Tensors(torch.nn.Module):
    """Takes inputs in order and gives a tuple of tensors."""

    def __init__(self, model: torch.nn.Module, inputs: list[str], reads: str):
        super().__init__()
        self.model, self.inputs, self.reads = model, inputs, reads

    def forward(self, *inputs):
        given = dict(zip(self.inputs, inputs))
        if self.reads != "picture" and hasattr(self.model.config, "use_cache"):
            given["use_cache"] = False
        found = self.model(**given)
        if self.reads == "both":
            return found.logits_per_image, found.image_embeds, found.text_embeds
        return found.logits


def build(name: str):
    """Returns the network and its inputs by name."""
    maker, config, settings, reads = MODELS[name]
    config = getattr(t, config)(**settings)
    # Plain attention exports with both exporters.
    config._attn_implementation = "eager"
    if name == "mixtral":
        # Experts by their numbers: the default is a kernel that no exporter knows, and a loop over
        # experts would be traced for one routing.
        config._experts_implementation = "batched_mm"
    model = getattr(t, maker)(config).eval()
    inputs = _inputs(reads, model)
    return Tensors(model, list(inputs), reads), inputs


def _inputs(reads: str, model) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, VOCABULARY, (BATCH, TOKENS))
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[1, -3:] = 0
    picture = torch.randn(BATCH, 3, 32, 32)
    if reads == "ids":
        return {"input_ids": ids}
    if reads == "text":
        return {"input_ids": ids, "attention_mask": mask}
    if reads == "pair":
        return {"input_ids": ids, "attention_mask": mask,
                "decoder_input_ids": torch.randint(3, VOCABULARY, (BATCH, 7))}
    if reads == "picture":
        return {"pixel_values": picture}
    if reads == "picture64":
        return {"pixel_values": torch.randn(BATCH, 3, 64, 64)}
    if reads == "both":
        ids[:, -1] = 2
        return {"input_ids": ids, "pixel_values": picture, "attention_mask": torch.ones_like(mask)}
    if reads == "mel":
        return {"input_features": torch.randn(BATCH, 16, 40),
                "decoder_input_ids": torch.randint(3, VOCABULARY, (BATCH, 7))}
    return {"input_values": torch.randn(BATCH, 1600)}
