"""ONNX Runtime's execution providers as a target names them, and the options each may be given.

Names and kinds from ONNX Runtime's documentation of its CUDA and TensorRT execution providers. Threads and spinning of
the CPU are `policy_threads` and `policy_spinning`.
"""

from __future__ import annotations

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

OPTIONS: dict[str, dict[str, type]] = {
    CPU: {},
    CUDA: {
        "device_id": int,
        "gpu_mem_limit": int,  # bytes of the arena
        "arena_extend_strategy": str,
        "cudnn_conv_algo_search": str,
        "cudnn_conv_use_max_workspace": bool,
        "do_copy_in_default_stream": bool,
        "enable_cuda_graph": bool,
        "prefer_nhwc": bool,
        "use_tf32": bool,
    },
    TENSORRT: {
        "device_id": int,
        "trt_auxiliary_streams": int,
        "trt_build_heuristics_enable": bool,
        "trt_builder_optimization_level": int,
        "trt_context_memory_sharing_enable": bool,
        "trt_cuda_graph_enable": bool,
        "trt_dla_core": int,
        "trt_dla_enable": bool,
        "trt_fp16_enable": bool,
        "trt_int8_enable": bool,
        "trt_layer_norm_fp32_fallback": bool,
        "trt_max_partition_iterations": int,
        "trt_max_workspace_size": int,  # bytes
        "trt_min_subgraph_size": int,
        "trt_op_types_to_exclude": str,
        "trt_sparsity_enable": bool,
    },
}
# Set by the runtime (edgevla.policy.engines): caches lie beside the release, by GPU, model and library version.
OWN_OPTIONS = (
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
)
