"""What XLA has to know of a GPU to compile for it.

The numbers are those of NVIDIA's data sheet of the H100 SXM5 and of the table
"technical specifications per compute capability" in the CUDA C++ programming guide.
"""

from isojax.targets.names import GPUS_PER_HOST

H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  platform_version: "Compute Capability 9.0a"
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  device_address_bits: 64
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  device_interconnect_info { active_links: 18 }
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.12.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
GPU_DESCRIPTIONS = {"h100": H100}


def gpu_topology(count: int) -> str:
    """Returns XLA's topology of a number of GPUs: slices, hosts, GPUs of a host."""
    return f"1x{-(-count // GPUS_PER_HOST)}x{min(count, GPUS_PER_HOST)}"
