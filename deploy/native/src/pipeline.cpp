#include "pipeline.hpp"

#include <chrono>
#include <deque>
#include <exception>
#include <optional>

namespace slipway {
namespace {

// One image between being taken up and being handed out.
struct Slot {
  std::size_t index = 0;
  std::shared_ptr<Item> item;         // until its outputs are there
  std::future<std::string> finished;  // from then on
  std::optional<ImageError> error;    // instead

  bool ready() const {
    return error || (finished.valid() && finished.wait_for(std::chrono::seconds(0)) == std::future_status::ready);
  }
};

class Pipeline {
 public:
  Pipeline(const Model& model, ThreadPool& workers, std::size_t count, int batch, int ahead, const Stages& stages)
      : model_(model),
        workers_(workers),
        count_(count),
        batch_(static_cast<std::size_t>(batch)),
        ahead_(static_cast<std::size_t>(ahead)),
        stages_(stages) {}

  void run() {
    try {
      while (take_up()) hand_out(false);
      flush();
      hand_out(true);
    } catch (...) {
      // Workers still use what this object holds.
      for (auto& future : loading_) future.wait();
      for (auto& slot : slots_)
        if (slot.finished.valid()) slot.finished.wait();
      throw;
    }
  }

 private:
  // Take the next image up; false at the end.
  bool take_up() {
    const bool stop = stages_.stop();
    while (!stop && loading_.size() < ahead_ && next_ < count_) {
      loading_.push_back(
          workers_.submit([this, index = next_] { return std::make_shared<Item>(stages_.load(index)); }));
      ++next_;
    }
    if (stop || loading_.empty()) {
      for (auto& future : loading_) future.wait();
      return false;
    }
    auto future = std::move(loading_.front());
    loading_.pop_front();
    slots_.push_back({taken_++, nullptr, {}, std::nullopt});
    try {
      slots_.back().item = future.get();
    } catch (const ImageError& error) {
      slots_.back().error = error;
      return true;
    }
    if (!waiting_.empty() && !waiting_.front()->item->prepared.same_shape(slots_.back().item->prepared)) flush();
    waiting_.push_back(&slots_.back());
    if (waiting_.size() == batch_) flush();
    return true;
  }

  // Run the graph on the images that wait for it.
  void flush() {
    if (waiting_.empty()) return;
    std::vector<const Prepared*> prepared;
    for (const auto* slot : waiting_) prepared.push_back(&slot->item->prepared);
    const auto outputs = std::make_shared<const Outputs>(model_.run(prepared));
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      auto& slot = *waiting_[i];
      slot.finished = workers_.submit([this, outputs, i, item = std::move(slot.item), index = slot.index] {
        const auto result = model_.task().finish(*outputs, i, item->prepared);
        return stages_.finish(index, *item, *result);
      });
    }
    waiting_.clear();
  }

  // Hand out, in order, what is finished; wait for all of it, or for the oldest where too much is under way.
  void hand_out(bool all) {
    while (!slots_.empty()) {
      auto& slot = slots_.front();
      const bool begun = slot.error || slot.finished.valid();
      if (!begun || (!all && !slot.ready() && slots_.size() < 2 * ahead_ + batch_)) return;
      if (slot.error)
        stages_.failed(slot.index, *slot.error);
      else
        stages_.done(slot.index, slot.finished.get());
      slots_.pop_front();
    }
  }

  const Model& model_;
  ThreadPool& workers_;
  const std::size_t count_, batch_, ahead_;
  const Stages& stages_;
  std::size_t next_ = 0, taken_ = 0;
  std::deque<std::future<std::shared_ptr<Item>>> loading_;
  std::deque<Slot> slots_;  // growing at the end leaves the others where they are
  std::vector<Slot*> waiting_;
};

}  // namespace

void run_pipeline(const Model& model, ThreadPool& workers, std::size_t count, int batch, int ahead,
                  const Stages& stages) {
  Pipeline(model, workers, count, batch, ahead, stages).run();
}

}  // namespace slipway
