#include "providers.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "error.hpp"

namespace slipway {
namespace {

// TF32 keeps 10 of float32's 23 bits of mantissa; a float32 graph computes in float32.
void add_cuda(Ort::SessionOptions& settings) {
  OrtCUDAProviderOptionsV2* created = nullptr;
  Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&created));
  const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(Ort::GetApi().ReleaseCUDAProviderOptions)> cuda(
      created, Ort::GetApi().ReleaseCUDAProviderOptions);
  const std::array keys{"use_tf32"}, values{"0"};
  Ort::ThrowOnError(Ort::GetApi().UpdateCUDAProviderOptions(cuda.get(), keys.data(), values.data(), keys.size()));
  settings.AppendExecutionProvider_CUDA_V2(*cuda);
}

void add_tensorrt(Ort::SessionOptions& settings, const std::string& cache) {
  OrtTensorRTProviderOptionsV2* created = nullptr;
  Ort::ThrowOnError(Ort::GetApi().CreateTensorRTProviderOptions(&created));
  const std::unique_ptr<OrtTensorRTProviderOptionsV2, decltype(Ort::GetApi().ReleaseTensorRTProviderOptions)> tensorrt(
      created, Ort::GetApi().ReleaseTensorRTProviderOptions);
  if (!cache.empty()) {
    const std::array keys{"trt_engine_cache_enable", "trt_engine_cache_path", "trt_timing_cache_enable"};
    const std::array values{"1", cache.c_str(), "1"};
    Ort::ThrowOnError(
        Ort::GetApi().UpdateTensorRTProviderOptions(tensorrt.get(), keys.data(), values.data(), keys.size()));
  }
  settings.AppendExecutionProvider_TensorRT_V2(*tensorrt);
  add_cuda(settings);  // for what TensorRT leaves over
}

}  // namespace

void add_provider(Ort::SessionOptions& settings, const SessionOptions& options) {
  if (options.device == "cpu") return;
  const std::string wanted = options.device == "cuda" ? "CUDAExecutionProvider" : "TensorrtExecutionProvider";
  const auto found = Ort::GetAvailableProviders();
  if (std::find(found.begin(), found.end(), wanted) == found.end()) {
    std::string names;
    for (const auto& name : found) names += (names.empty() ? "" : ", ") + name;
    throw SessionError("device '" + options.device + "' needs " + wanted + ", this ONNX Runtime has " + names +
                       "; build with the GPU release of ONNX Runtime (ORT_ROOT=) or use device cpu");
  }
  try {
    if (options.device == "cuda")
      add_cuda(settings);
    else
      add_tensorrt(settings, options.cache.string());
  } catch (const Ort::Exception& error) {
    throw SessionError(wanted + " did not start (" + one_line(error.what()) +
                       "); it needs CUDA with cuDNN and a driver for it, or use device cpu");
  }
}

}  // namespace slipway
