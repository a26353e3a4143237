// A value of a JSON text, read strictly: nothing is converted, and every complaint names the field.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

// The most pixels of a width, a height or a divisor of them.
inline constexpr std::int64_t kMaxEdge = 1 << 16;

// The beginning of a value, as JSON of ASCII alone.
inline std::string shown(const nlohmann::json& value) {
  auto text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return text.size() <= 40 ? text : text.substr(0, 40) + "…";
}

// A value and the path that leads to it. What does not fit is refused as std::invalid_argument.
class Value {
 public:
  Value(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  [[noreturn]] void refuse(const std::string& text) const {
    throw std::invalid_argument((path_.empty() ? "manifest" : path_) + ": " + text);
  }

  // An object with these fields and no others.
  void expect_fields(std::initializer_list<std::string_view> known) const {
    expect_object();
    for (const auto& [key, _] : value_->items())
      if (std::find(known.begin(), known.end(), key) == known.end()) at(key).refuse("Extra inputs are not permitted");
  }
  bool has(const std::string& key) const { return value_->contains(key); }
  // A field that is there and not null.
  bool given(const std::string& key) const { return has(key) && !(*value_)[key].is_null(); }
  Value operator[](const std::string& key) const {
    expect_object();
    if (!has(key)) at(key).refuse("Field required");
    return at(key);
  }

  std::string text() const {
    if (!value_->is_string()) refuse("expected a string, found " + shown(*value_));
    return value_->get<std::string>();
  }
  bool boolean() const {
    if (!value_->is_boolean()) refuse("expected true or false, found " + shown(*value_));
    return value_->get<bool>();
  }
  std::int64_t integer(std::int64_t least, std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const bool fits = value_->is_number_unsigned() ? value_->get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                                   : value_->is_number_integer();
    if (!fits || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most)
      refuse("expected an integer " + range_of(least, most) + ", found " + shown(*value_));
    return value_->get<std::int64_t>();
  }
  int pixels() const { return static_cast<int>(integer(1, kMaxEdge)); }
  double number() const {
    if (!value_->is_number() || !std::isfinite(value_->get<double>()))
      refuse("expected a finite number, found " + shown(*value_));
    return value_->get<double>();
  }
  bool is_integer() const { return value_->is_number_integer(); }
  std::vector<Value> array() const {
    if (!value_->is_array()) refuse("expected a list, found " + shown(*value_));
    std::vector<Value> values;
    for (std::size_t i = 0; i < value_->size(); ++i)
      values.emplace_back((*value_)[i], (path_.empty() ? "" : path_ + ".") + std::to_string(i));
    return values;
  }
  std::vector<std::pair<std::string, Value>> items() const {
    expect_object();
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& [key, _] : value_->items()) values.emplace_back(key, at(key));
    return values;
  }
  // One of these words.
  std::size_t choice(std::initializer_list<std::string_view> words) const {
    const auto word = text();
    const auto found_at = std::find(words.begin(), words.end(), word);
    if (found_at == words.end()) {
      std::string known;
      for (const auto each : words) known += (known.empty() ? "'" : ", '") + std::string(each) + "'";
      refuse("expected one of " + known + ", found " + shown(*value_));
    }
    return static_cast<std::size_t>(found_at - words.begin());
  }

 private:
  void expect_object() const {
    if (!value_->is_object()) refuse("expected an object, found " + shown(*value_));
  }
  Value at(const std::string& key) const {
    static const nlohmann::json null;
    return {has(key) ? (*value_)[key] : null, path_.empty() ? key : path_ + "." + key};
  }
  static std::string range_of(std::int64_t least, std::int64_t most) {
    if (most == std::numeric_limits<std::int64_t>::max()) return "of " + std::to_string(least) + " or more";
    return "from " + std::to_string(least) + " to " + std::to_string(most);
  }

  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace slipway
