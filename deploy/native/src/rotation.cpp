#include "rotation.hpp"

#include <map>
#include <utility>

namespace slipway {
namespace {

// Images are read up to this number and this many floats of prepared arrays: 512 MiB.
constexpr std::size_t kMostImages = 256, kMostFloats = std::size_t{1} << 27;

}  // namespace

Rotation::Rotation(const Model& model, const std::vector<Source>& sources) : model_(model) {
  std::size_t floats = 0;
  for (const auto& source : sources) {
    if (prepared_.size() == kMostImages || floats > kMostFloats) break;
    names_.push_back(source.path.string());
    encoded_.push_back(read_file(source.path));
    prepared_.push_back(prepare(encoded_.size() - 1));
    floats += prepared_.back().array.size();
  }
}

Prepared Rotation::prepare(std::size_t index) const {
  return preprocess(decode(encoded_[index], names_[index]), model_.manifest().preprocess, names_[index]);
}

std::vector<Group> Rotation::groups_of_one_shape(std::size_t batch) const {
  std::map<std::pair<int, int>, Group> waiting;
  std::vector<Group> groups;
  for (const auto& prepared : prepared_) {
    auto& group = waiting[{prepared.size.height, prepared.size.width}];
    group.push_back(&prepared);
    if (group.size() == batch) groups.push_back(std::exchange(group, {}));
  }
  return groups;
}

std::vector<Group> batches_of(const std::vector<Prepared>& images, std::size_t batch) {
  std::vector<Group> batches;
  for (const auto& one : images) {
    if (batches.empty() || batches.back().size() == batch || !batches.back()[0]->same_shape(one))
      batches.emplace_back();
    batches.back().push_back(&one);
  }
  return batches;
}

}  // namespace slipway
