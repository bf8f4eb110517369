"""Sizes of tiny networks as arguments of ComfyUI's classes, one table for each architecture."""

from typing import Any

Sizes = dict[str, Any]

WAN: Sizes = {"image_model": "wan2.1", "dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 2}
HUNYUAN: Sizes = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": 768,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
HUNYUAN_15: Sizes = HUNYUAN | {
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "vec_in_dim": None,
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
    "meanflow_sum": True,
}
LTXV: Sizes = {"num_layers": 2, "attention_head_dim": 8, "cross_attention_dim": 256}
LTX2: Sizes = LTXV | {
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 128,
    "caption_channels": 64,
    "connector_attention_head_dim": 32,
    "connector_num_attention_heads": 2,
    "connector_num_layers": 1,
}
COSMOS: Sizes = {
    "image_model": "cosmos_predict2",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "model_channels": 128,
    "num_blocks": 2,
    "num_heads": 1,
    "crossattn_emb_channels": 64,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "rope_h_extrapolation_ratio": 1.0,
    "rope_w_extrapolation_ratio": 1.0,
    "rope_t_extrapolation_ratio": 2.0,
    "extra_per_block_abs_pos_emb": False,
    "rope_enable_fps_modulation": False,
}
NOT_IN_COSMOS_1 = ("min_fps", "max_fps", "rope_enable_fps_modulation")
MOCHI: Sizes = {
    "image_model": "mochi_preview",
    "depth": 2,
    "patch_size": 2,
    "num_heads": 2,
    "hidden_size_x": 128,
    "hidden_size_y": 64,
    "mlp_ratio_x": 96.0,
    "mlp_ratio_y": 96.0,
    "learn_sigma": False,
    "in_channels": 12,
    "qk_norm": True,
    "qkv_bias": False,
    "out_bias": True,
    "attn_drop": 0.0,
    "patch_embed_bias": True,
    "posenc_preserve_area": True,
    "timestep_mlp_bias": True,
    "attend_to_padding": False,
    "timestep_scale": 1000.0,
    "use_t5": True,
    "t5_feat_dim": 64,
    "t5_token_length": 12,
    "rope_theta": 10000.0,
}
COG: Sizes = {
    "image_model": "cogvideox",
    "num_attention_heads": 2,
    "num_layers": 2,
    "time_embed_dim": 64,
    "text_embed_dim": 64,
    "use_rotary_positional_embeddings": True,
}
KANDINSKY: Sizes = {
    "image_model": "kandinsky5",
    "model_dim": 128,
    "ff_dim": 64,
    "time_dim": 64,
    "num_visual_blocks": 2,
    "num_text_blocks": 1,
    "visual_embed_dim": 132,
}
MINIMAX: Sizes = {
    "image_model": "minimax_h3",
    "hidden_size": 128,
    "num_layers": 2,
    "token_refiner_num_layers": 1,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "ffn_hidden_size": 64,
    "text_dim": 64,
    "time_embed_hidden_size": 64,
    "time_embed_dim": 32,
    "timestep_input_dim": 256,
}
LTX_VAE: Sizes = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "encoder_blocks": [["compress_all", {}], ["compress_all", {}], ["compress_all", {}]],
    "decoder_blocks": [
        ["compress_all", {}],
        ["compress_all", {}],
        ["compress_all", {}],
        ["res_x", {"num_layers": 1}],
    ],
    "encoder_base_channels": 4,
    "decoder_base_channels": 4,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "latent_log_var": "uniform",
}
AUDIO_VAE: Sizes = {
    "model": {
        "params": {
            "sampling_rate": 16000,
            "ddconfig": {
                "double_z": True,
                "mel_bins": 64,
                "z_channels": 8,
                "resolution": 256,
                "downsample_time": False,
                "in_channels": 2,
                "out_ch": 2,
                "ch": 4,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.0,
                "mid_block_add_attention": False,
                "norm_type": "pixel",
                "causality_axis": "height",
            },
        }
    },
    "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
}
VOCODER: Sizes = {
    "resblock_kernel_sizes": [3],
    "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "upsample_initial_channel": 64,
    "resblock": "1",
    "stereo": True,
    "output_sample_rate": 16000,
}
UPSAMPLER: Sizes = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}
