#include "session.hpp"

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <bit>

#include "error.hpp"
#include "graph_cache.hpp"
#include "input_buffer.hpp"
#include "providers.hpp"

namespace slipway {
namespace {

constexpr std::array<std::pair<ONNXTensorElementDataType, DType>, 7> kDTypes{
    {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, DType::kFloat32},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, DType::kFloat16},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, DType::kUint8},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, DType::kInt8},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, DType::kInt32},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, DType::kInt64},
     {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, DType::kBool}}};

Ort::Env& environment() {
  static Ort::Env env(ORT_LOGGING_LEVEL_FATAL, "ort_infer");  // every error is raised as well
  return env;
}

ONNXTensorElementDataType element_type(DType dtype) {
  return std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& pair) { return pair.second == dtype; })->first;
}

TensorSpec spec_of(const std::string& name, const Ort::TypeInfo& type) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) throw BundleError("'" + name + "' is no tensor");
  const auto info = type.GetTensorTypeAndShapeInfo();
  const auto element = info.GetElementType();
  const auto* found =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& pair) { return pair.first == element; });
  if (found == kDTypes.end()) throw BundleError("'" + name + "' has a data type that no image or prediction has");
  TensorSpec spec{name, found->second, {}};
  const auto sizes = info.GetShape();
  std::vector<const char*> symbols(sizes.size());
  info.GetSymbolicDimensions(symbols.data(), symbols.size());
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    const std::string symbol = symbols[axis];
    spec.shape.push_back(
        {std::max<std::int64_t>(sizes[axis], 0), symbol.empty() ? name + "." + std::to_string(axis) : symbol});
  }
  return spec;
}

bool is_bad_file(OrtErrorCode code) {
  return code == ORT_FAIL || code == ORT_INVALID_ARGUMENT || code == ORT_NO_SUCHFILE || code == ORT_NO_MODEL ||
         code == ORT_INVALID_PROTOBUF || code == ORT_INVALID_GRAPH;
}

// A device that fails at the start has a damaged file's code; what the CPU opens is not damaged.
bool opens_on_cpu(const std::filesystem::path& graph) {
  try {
    const Ort::Session session(environment(), graph.c_str(), Ort::SessionOptions());
    return true;
  } catch (const Ort::Exception&) {
    return false;
  }
}

void check_finite(const Tensor& tensor) {
  const auto* values = tensor.as<float>();
  // The exponent of infinities and of NaN is all ones; no branch inside the loop.
  constexpr std::uint32_t exponent = 0x7F800000;
  std::uint32_t bad = 0;
  for (std::int64_t i = 0; i < tensor.count(); ++i)
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(values[i]) & exponent) == exponent);
  if (bad)
    throw VerificationError("output '" + tensor.name + "' has values that are no finite numbers; verify the export");
}

// An output that keeps ONNX Runtime's memory; float16 becomes float32.
Tensor tensor_of(const TensorSpec& spec, Ort::Value&& value) {
  auto owner = std::make_shared<Ort::Value>(std::move(value));
  Tensor tensor{spec.name, spec.dtype, owner->GetTensorTypeAndShapeInfo().GetShape(), owner->GetTensorRawData(), owner};
  if (spec.dtype == DType::kFloat16) {
    auto wide = std::make_shared<std::vector<float>>(static_cast<std::size_t>(tensor.count()));
    const auto* narrow = tensor.as<Ort::Float16_t>();
    std::transform(narrow, narrow + wide->size(), wide->begin(), [](Ort::Float16_t half) { return half.ToFloat(); });
    tensor.data = wide->data();
    tensor.owner = wide;
    tensor.dtype = DType::kFloat32;
  }
  return tensor;
}

}  // namespace

struct Session::Impl {
  Ort::Session session{nullptr};
  std::vector<TensorSpec> inputs, outputs;
  std::unique_ptr<InputBuffer> buffer;
  std::unique_ptr<Ort::IoBinding> binding;
  Ort::MemoryInfo host = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::MemoryInfo device = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);

  void read_specs() {
    const Ort::AllocatorWithDefaultOptions allocator;
    for (std::size_t i = 0; i < session.GetInputCount(); ++i)
      inputs.push_back(spec_of(session.GetInputNameAllocated(i, allocator).get(), session.GetInputTypeInfo(i)));
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
      outputs.push_back(spec_of(session.GetOutputNameAllocated(i, allocator).get(), session.GetOutputTypeInfo(i)));
  }

  void bind_input(Ort::IoBinding& to, const InputBuffer& from) const {
    const auto& shape = from.shape();
    to.BindInput(inputs[0].name.c_str(), Ort::Value::CreateTensor(host, from.data(), from.bytes(), shape.data(),
                                                                  shape.size(), element_type(inputs[0].dtype)));
    to.SynchronizeInputs();
  }

  void run_bound(Ort::IoBinding& bound, const Ort::MemoryInfo& where) {
    for (const auto& output : outputs) bound.BindOutput(output.name.c_str(), where);
    try {
      session.Run(Ort::RunOptions{nullptr}, bound);
      bound.SynchronizeOutputs();
    } catch (const Ort::Exception& error) {
      throw SessionError("onnxruntime: the graph failed on this input (" + one_line(error.what()) + ")");
    }
  }

  // What a run left on the host for `count` images.
  Outputs take(Ort::IoBinding& bound, std::size_t count) const {
    auto values = bound.GetOutputValues();
    bound.ClearBoundOutputs();
    Outputs found;
    for (std::size_t i = 0; i < values.size(); ++i) {
      auto tensor = tensor_of(outputs[i], std::move(values[i]));
      // What filled a fixed batch up is left out.
      const auto wanted = static_cast<std::int64_t>(count);
      if (tensor.shape.empty() || tensor.shape[0] < wanted)
        throw VerificationError("output '" + tensor.name +
                                "' has fewer entries than the batch has images; verify the export");
      tensor.shape[0] = wanted;
      if (tensor.dtype == DType::kFloat32) check_finite(tensor);
      found.push_back(std::move(tensor));
    }
    return found;
  }
};

Session::Session(const std::filesystem::path& graph, const SessionOptions& options) : impl_(std::make_unique<Impl>()) {
  auto& env = environment();  // before a provider is loaded, whose errors go through its logger
  Ort::SessionOptions settings;
  settings.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
  settings.SetInterOpNumThreads(1);
  if (options.threads) settings.SetIntraOpNumThreads(options.threads);
  const auto path = graph.string();
  if (!std::filesystem::is_regular_file(graph))
    throw BundleError(path + ": no such file; expected a bundle made by `make export-…` or its " +
                      std::string(kGraphName));
  add_provider(settings, options);
  try {
    GraphCache cache(graph, options);
    impl_->session = Ort::Session(env, cache.prepare(settings).c_str(), settings);
    cache.keep();
    impl_->read_specs();
  } catch (const BundleError& error) {
    throw BundleError(path + ": not a usable ONNX file (" + error.what() + "); export again");
  } catch (const Ort::Exception& error) {
    if (is_bad_file(error.GetOrtErrorCode()) && (options.device == "cpu" || !opens_on_cpu(graph)))
      throw BundleError(path + ": not a usable ONNX file (" + one_line(error.what()) + "); export again");
    throw SessionError(path + ": onnxruntime cannot run this graph on " + options.device + " (" +
                       one_line(error.what()) + ")");
  }
  if (impl_->inputs.size() != 1 || impl_->inputs[0].shape.size() != 4)
    throw BundleError(path + ": the graph's input is no batch of images: " + text_of(impl_->inputs));
  impl_->buffer = std::make_unique<InputBuffer>(impl_->inputs[0]);
  impl_->binding = std::make_unique<Ort::IoBinding>(impl_->session);
  if (options.device != "cpu") impl_->device = Ort::MemoryInfo("Cuda", OrtDeviceAllocator, 0, OrtMemTypeDefault);
}

Session::~Session() = default;

const std::vector<TensorSpec>& Session::inputs() const { return impl_->inputs; }
const std::vector<TensorSpec>& Session::outputs() const { return impl_->outputs; }
bool Session::on_gpu() const { return impl_->device.GetDeviceType() == OrtMemoryInfoDeviceType_GPU; }
std::int64_t Session::fixed_batch() const { return impl_->inputs[0].shape[0].size; }

std::string Session::metadata(const char* key) const {
  const Ort::AllocatorWithDefaultOptions allocator;
  const auto value = impl_->session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
  return value ? value.get() : "";
}

Outputs Session::run(const Batch& batch) {
  auto& impl = *impl_;
  impl.buffer->fill(batch);
  impl.bind_input(*impl.binding, *impl.buffer);
  impl.run_bound(*impl.binding, impl.host);
  return impl.take(*impl.binding, batch.arrays.size());
}

Bound Session::bind(const Batch& batch, bool keep) {
  const auto buffer = std::make_shared<InputBuffer>(impl_->inputs[0]);
  const auto binding = std::make_shared<Ort::IoBinding>(impl_->session);
  buffer->fill(batch);
  impl_->bind_input(*binding, *buffer);
  return {[this, buffer, binding, keep] {
            impl_->run_bound(*binding, impl_->device);
            if (!keep) binding->ClearBoundOutputs();  // bindings that take turns must not hold an output each
          },
          [this, binding, count = batch.arrays.size()] { return impl_->take(*binding, count); }};
}

std::string onnxruntime_version() { return Ort::GetVersionString(); }

namespace {

// Two symbols never differ, whatever their names; below `fixed_to_differ` fixed sizes nor does a symbol from a number.
bool same(const TensorSpec& said, const TensorSpec& found, int fixed_to_differ) {
  if (said.name != found.name || said.dtype != found.dtype || said.shape.size() != found.shape.size()) return false;
  for (std::size_t axis = 0; axis < said.shape.size(); ++axis) {
    const auto &a = said.shape[axis], &b = found.shape[axis];
    if (a.size != b.size && a.is_fixed() + b.is_fixed() >= fixed_to_differ) return false;
  }
  return true;
}

void compare(const std::string& what, const Manifest& manifest, const std::vector<TensorSpec>& said,
             const std::vector<TensorSpec>& found, int fixed_to_differ) {
  const bool equal = said.size() == found.size() &&
                     std::equal(said.begin(), said.end(), found.begin(),
                                [&](const auto& a, const auto& b) { return same(a, b, fixed_to_differ); });
  if (!equal) {
    throw BundleError(manifest.name + ": the manifest's " + what + " are " + text_of(said) + ", the graph's are " +
                      text_of(found) + "; export again");
  }
}

}  // namespace

void check_graph(const Manifest& manifest, const Session& session) {
  compare("inputs", manifest, {manifest.input}, session.inputs(), 1);
  // An engine may infer more of an output's shape than the graph's file declares: only two numbers can differ.
  compare("outputs", manifest, manifest.outputs, session.outputs(), 2);
}

}  // namespace slipway
