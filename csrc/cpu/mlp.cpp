// Chains of fully connected layers on the CPU: checks, allocation, threads, registration.
#include <algorithm>
#include <optional>
#include <vector>

#include "cpu/convolutions.h"
#include "mlp/job.h"

namespace switchgrad {
namespace {

using Tensors = std::vector<Tensor>;

const MlpKernels& kernels_for(const Tensor& input) {
  return of_dtype(kernels<MlpTable>(SWITCHGRAD_OF_EACH_ISA(mlp_table)), input,
                  "the kernels of fully connected layers take");
}

// The layers, with what they read held compact for as long as this lives. Of maps each picture is a row: channel,
// row, column, whatever their layout.
class Layers {
 public:
  Layers(const Tensor& input, Tensors weights)
      : input_(input.dim() == 4 ? relaid(input, false) : made_compact(input, false)) {
    if (weights.empty()) fail("a chain of fully connected layers has one layer at least, and got no weight");
    if (input.dim() != 2 && input.dim() != 4)
      fail("a chain of fully connected layers takes rows (M, K) or maps (M, C, H, W), and the input has shape " +
           written(input));
    int64_t width = 1;
    for (int64_t axis = 1; axis < input.dim(); ++axis) width *= input.size(axis);
    for (const Tensor& weight : weights) {
      check_same_dtype(input, weight, "weight");
      if (weight.dim() != 2 || weight.size(1) != width)
        fail("layer " + std::to_string(layers_.size() + 1) + " gets " + std::to_string(width) +
             " numbers a row, and its weight has shape " + written(weight));
      held_.push_back(made_compact(weight, false));
      width = weight.size(0);
      layers_.push_back({weight.size(1), width, held_.back().const_data_ptr(), nullptr});
    }
  }

  void give_biases(const std::vector<std::optional<Tensor>>& biases) {
    if (biases.size() != layers_.size())
      fail("there are " + std::to_string(layers_.size()) + " layers and " + std::to_string(biases.size()) +
           " biases; give one for each layer, or None for it");
    for (size_t at = 0; at < biases.size(); ++at) {
      if (!biases[at]) continue;
      const Tensor& bias = *biases[at];
      check_same_dtype(input_, bias, "bias");
      if (bias.dim() != 1 || bias.size(0) != layers_[at].outputs)
        fail("the bias of layer " + std::to_string(at + 1) + " has shape " + written(bias) +
             "; give one number for each of the " + std::to_string(layers_[at].outputs) + " rows of its weight");
      held_.push_back(made_compact(bias, false));
      layers_[at].bias = held_.back().const_data_ptr();
    }
  }

  void describe(MlpJob& job) const {
    job.rows = input_.size(0);
    job.count = static_cast<int64_t>(layers_.size());
    job.layers = layers_.data();
    job.input = input_.const_data_ptr();
  }
  const MlpLayer& operator[](size_t at) const { return layers_[at]; }
  size_t size() const { return layers_.size(); }
  int64_t rows() const { return input_.size(0); }

  // Numbers of all weights.
  int64_t weights() const {
    int64_t found = 0;
    for (const MlpLayer& layer : layers_) found += layer.inputs * layer.outputs;
    return found;
  }
  Tensor made_outputs(size_t at) const { return compact({rows(), layers_[at].outputs}, false, input_.scalar_type()); }

 private:
  Tensor input_;
  Tensors held_;
  std::vector<MlpLayer> layers_;
};

// Multiplications that a thread is worth waking for, as in_parallel counts, of each of `items`.
int64_t work_of(const Layers& layers, int64_t items) {
  return items > 0 ? layers.rows() * layers.weights() / 8 / items + 1 : 1;
}

// What the last layer gives, and where `kept` behind it what each of the others gives behind its ReLU.
Tensors mlp(const Tensor& input, Tensors weights, const std::vector<std::optional<Tensor>>& biases, bool kept) {
  const MlpKernels& with = kernels_for(input);
  Layers layers(input, weights);
  layers.give_biases(biases);
  Tensors made{layers.made_outputs(layers.size() - 1)};
  std::vector<void*> outputs(layers.size(), nullptr);
  outputs.back() = made[0].mutable_data_ptr();
  for (size_t at = 0; kept && at + 1 < layers.size(); ++at) {
    made.push_back(layers.made_outputs(at));
    outputs[at] = made.back().mutable_data_ptr();
  }
  MlpForwardJob job;
  layers.describe(job);
  if (job.rows == 0) return made;
  const int64_t each = with.vectors(job) / std::max<int64_t>(torch::stable::get_num_threads(), 1);
  job.vectors = std::clamp<int64_t>(each, 1, with.most_vectors);
  job.outputs = outputs.data();
  const CallScratch room = scratch(with.room(job), input);
  job.room = room.get();
  const int64_t items = with.forward_items(job);
  in_parallel(items, work_of(layers, items), [&](int64_t begin, int64_t end) { with.forward(job, begin, end); });
  return made;
}

void check_rows(const Tensor& t, const Tensor& input, int64_t outputs, const std::string& what) {
  check_same_dtype(input, t, what.c_str());
  if (sizes_of(t) != Sizes{input.size(0), outputs})
    fail("the " + what + " has shape " + written(t) + "; it should have (" + std::to_string(input.size(0)) + ", " +
         std::to_string(outputs) + ")");
}

// The gradients of each layer's outputs before its ReLU: the last is given, and there is room for the others.
class OutputGradients {
 public:
  OutputGradients(const Layers& layers, const Tensor& grad, size_t first) : grads(layers.size(), nullptr) {
    given_ = made_compact(grad, false);
    grads.back() = const_cast<void*>(given_.const_data_ptr());
    for (size_t at = first; at + 1 < layers.size(); ++at) {
      made_.push_back(layers.made_outputs(at));
      grads[at] = made_.back().mutable_data_ptr();
    }
  }
  std::vector<void*> grads;

 private:
  Tensor given_;
  Tensors made_;
};

// The gradients of the input and of each layer's weight and bias, in this order, empty where they are not wanted. That
// of maps has their layout.
Tensors mlp_backward(const Tensor& grad, const Tensor& input, Tensors hidden, Tensors weights,
                     const std::vector<bool>& wanted) {
  const MlpKernels& with = kernels_for(input);
  const Layers layers(input, weights);
  const size_t count = layers.size();
  if (hidden.size() + 1 != count || wanted.size() != 2 * count + 1)
    fail("a chain of " + std::to_string(count) + " layers has " + std::to_string(count - 1) + " hidden outputs and " +
         std::to_string(2 * count + 1) + " gradients; got " + std::to_string(hidden.size()) + " and " +
         std::to_string(wanted.size()));
  check_rows(grad, input, layers[count - 1].outputs, "gradient");
  std::vector<const void*> kept;
  for (size_t at = 0; at < hidden.size(); ++at) {
    check_rows(hidden[at], input, layers[at].outputs, "hidden output");
    hidden[at] = made_compact(hidden[at], false);
    kept.push_back(hidden[at].const_data_ptr());
  }
  const Sizes none{0};
  Tensors made;
  std::vector<void*> found;
  for (size_t at = 0; at < wanted.size(); ++at) {
    const size_t layer = at == 0 ? 0 : (at - 1) / 2;
    const Sizes sizes = at == 0       ? sizes_of(input)
                        : at % 2 == 1 ? Sizes{layers[layer].outputs, layers[layer].inputs}
                                      : Sizes{layers[layer].outputs};
    made.push_back(compact(wanted[at] ? sizes : none, false, input.scalar_type()));
    found.push_back(wanted[at] ? made.back().mutable_data_ptr() : nullptr);
  }
  const auto first_wanted = std::find(wanted.begin(), wanted.end(), true);
  if (first_wanted == wanted.end()) return made;
  const int64_t place = first_wanted - wanted.begin();
  MlpBackwardJob job;
  layers.describe(job);
  job.first = place == 0 ? 0 : (place - 1) / 2;
  const OutputGradients outputs(layers, grad, static_cast<size_t>(job.first));
  std::vector<void*> weight_grads, bias_grads;
  for (size_t at = 1; at < found.size(); at += 2) {
    weight_grads.push_back(found[at]);
    bias_grads.push_back(found[at + 1]);
  }
  job.hidden = kept.data();
  job.grads = outputs.grads.data();
  job.input_grad = input.numel() > 0 ? found[0] : nullptr;
  job.weight_grads = weight_grads.data();
  job.bias_grads = bias_grads.data();
  const int64_t groups = with.row_items(job), pieces = with.weight_items(job);
  in_parallel(groups, work_of(layers, groups),
              [&](int64_t begin, int64_t end) { with.row_gradients(job, begin, end); });
  in_parallel(pieces, work_of(layers, pieces),
              [&](int64_t begin, int64_t end) { with.weight_gradients(job, begin, end); });
  if (wanted[0] && is_channels_last(input, 2)) made[0] = relaid(made[0], true);
  return made;
}

}  // namespace
}  // namespace switchgrad

STABLE_TORCH_LIBRARY_IMPL(switchgrad, CPU, m) {
  m.impl("mlp", TORCH_BOX(&switchgrad::mlp));
  m.impl("mlp_backward", TORCH_BOX(&switchgrad::mlp_backward));
}
