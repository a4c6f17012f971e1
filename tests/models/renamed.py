"""How published code names the weights of ours: pairs for `published.fill`."""

UNET = [
    (r"^encoder\.first\.", "inc."),
    *(
        (rf"^encoder\.down\.{level}\.{block + 1}\.", f"down{level + 1}.nConvs.{block}.")
        for level in range(4)
        for block in range(2)
    ),
    *(
        (rf"^decoder\.up\.{level}\.mix\.{block}\.", f"up{4 - level}.nConvs.{block}.")
        for level in range(4)
        for block in range(2)
    ),
    (r"^(inc|.*nConvs\.\d)\.0\.", r"\1.conv."),
    (r"^(inc|.*nConvs\.\d)\.1\.", r"\1.norm."),
    *((rf"^decoder\.up\.{level}\.attention\.", f"up{4 - level}.pixModule.") for level in range(4)),
    (r"pixModule\.of_mean", "pixModule.conv_avg"),
    (r"pixModule\.of_maximum", "pixModule.conv_max"),
    (r"pixModule\.mix", "pixModule.bottleneck"),
    (r"^decoder\.out", "outc"),
]
CLIP_TEXT = [
    (r"^text_encoder\.projection\.weight$", "clip.text_projection.T"),
    (r"^text_encoder\.backbone\.embeddings\.token_embedding", "clip.token_embedding"),
    (r"^text_encoder\.backbone\.embeddings\.position_embedding\.weight$", "clip.positional_embedding"),
    (r"^text_encoder\.backbone\.final_layer_norm", "clip.ln_final"),
    (r"^text_encoder\.backbone\.encoder\.layers", "clip.transformer.resblocks"),
    (r"self_attn\.q_proj\.(weight|bias)$", r"attn.in_proj_\1[0/3]"),
    (r"self_attn\.k_proj\.(weight|bias)$", r"attn.in_proj_\1[1/3]"),
    (r"self_attn\.v_proj\.(weight|bias)$", r"attn.in_proj_\1[2/3]"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"layer_norm1", "ln_1"),
    (r"layer_norm2", "ln_2"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
]
RECONSTRUCTOR = [
    (r"^reconstruction\.vision", "rec_img_trans1"),
    (r"^reconstruction\.language", "rec_text_trans1"),
    (r"source_layers", "decoder1.decoder_layers"),
    (r"target_layers", "decoder2.decoder_layers"),
    (r"feed_forward\.layers\.0", "fc1"),
    (r"feed_forward\.layers\.2", "fc2"),
    (r"feed_forward\.norm", "final_layer_norm"),
    (r"\.own\.", ".self_attn."),
    (r"\.other\.", ".encoder_attn."),
    (r"attn\.norm", "attn_layer_norm"),
    (r"attn\.out\.", "attn.out_proj."),
    (r"attn\.query\.(weight|bias)$", r"attn.in_proj_\1[0/3]"),
    (r"attn\.key\.weight$", "attn.in_proj_weight[1/3]"),
    (r"attn\.value\.(weight|bias)$", r"attn.in_proj_\1[2/3]"),
]
RECLMIS = [
    *UNET,
    *CLIP_TEXT,
    *RECONSTRUCTOR,
    (r"^word_convolution\.convolution", "text_module4"),
    (r"^interaction\.embedding\.projection", "interact.embeddings.patch_embeddings"),
    (r"^interaction\.embedding\.position", "interact.embeddings.position_embeddings"),
    (r"^interaction\.text_to_vision", "interact.attn_img"),
    (r"^interaction\.vision_to_text", "interact.attn_text"),
    (r"^read_words\.convolution\.convolution", "interact.CTBN.conv"),
    (r"^read_words\.norm", "interact.CTBN.norm"),
    (r"^patch_interest", "mlp_visual"),
    (r"^word_interest", "mlp_woi"),
]
_LEVELS = [("0", ""), ("1", "1"), ("2", "2"), ("3", "3")]
LVIT = [
    *UNET,
    *((rf"^text\.steps\.{step}", f"text_module{4 - step}") for step in range(4)),
    (r"^transformer\.text\.block\.0", "downVit.CTBN3.conv"),
    (r"^transformer\.text\.block\.1", "downVit.CTBN3.norm"),
    *((rf"^transformer\.embed\.{level}", f"downVit{named}.embeddings") for level, named in _LEVELS),
    (r"embeddings\.project\.", "embeddings.patch_embeddings."),
    (r"embeddings\.positions", "embeddings.position_embeddings"),
    *((rf"^transformer\.down\.{level}", f"downVit{named}.Encoder_blocks.0") for level, named in _LEVELS),
    *((rf"^transformer\.up\.{level}", f"upVit{named}.Encoder_blocks.0") for level, named in _LEVELS),
    (r"attention\.in_proj_(weight|bias)$", r"attn.qkv.\1"),
    (r"attention\.out_proj", "attn.proj"),
    (r"Encoder_blocks\.0\.mlp\.0", "Encoder_blocks.0.mlp.fc1"),
    (r"Encoder_blocks\.0\.mlp\.3", "Encoder_blocks.0.mlp.fc2"),
    *((rf"^transformer\.halve\.{level}\.block", f"downVit{level + 1}.CTBN") for level in range(3)),
    *((rf"^transformer\.from_below\.{level}\.block", f"upVit{named}.CTBN2") for level, named in _LEVELS),
    (r"(CTBN2?)\.0\.", r"\1.conv."),
    (r"(CTBN2?)\.1\.", r"\1.norm."),
    *((rf"^transformer\.reconstruct\.{level}\.1", f"reconstruct{level + 1}.conv") for level in range(4)),
    *((rf"^transformer\.reconstruct\.{level}\.2", f"reconstruct{level + 1}.norm") for level in range(4)),
]
