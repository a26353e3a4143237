// Hashes of what is answered.
#include <gtest/gtest.h>

#include <array>

#include "answers.hpp"
#include "sha256.hpp"

namespace slipway {
namespace {

// FIPS 180-4's example.
constexpr const char* kOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

TEST(Answers, BytesAreHashed) {
  const std::array<char, 3> abc{'a', 'b', 'c'};
  EXPECT_EQ(sha256_of(std::as_bytes(std::span(abc))), kOfAbc);
  EXPECT_EQ(sha256_of(std::span<const std::byte>()), kOfNothing);
  EXPECT_EQ(sha256_of(std::filesystem::path("/nowhere")), std::nullopt);
}

TEST(Answers, EachOutputHasItsHash) {
  const std::array<std::uint8_t, 4> bytes{'a', 'b', 'c', 'd'};
  const Tensor three{"three", DType::kUint8, {3}, bytes.data(), nullptr}, none{"none", DType::kInt64, {0, 4}, {}, {}};
  EXPECT_EQ(hashes_of({three, none}).dump(),
            std::string(R"({"three":")") + kOfAbc + R"(","none":")" + kOfNothing + "\"}");
}

TEST(Answers, ElementsCountWithTheirSize) {
  const std::array<float, 2> values{1, 2};
  const std::array<std::uint8_t, 8> same{0, 0, 128, 63, 0, 0, 0, 64};
  const Tensor floats{"x", DType::kFloat32, {1, 2}, values.data(), nullptr},
      bytes{"x", DType::kUint8, {8}, same.data(), {}};
  EXPECT_EQ(hashes_of({floats}), hashes_of({bytes}));
}

TEST(Answers, ALabelMapIsHashedRowByRow) {
  const cv::Mat whole = (cv::Mat_<std::uint8_t>(2, 3) << 'a', 'b', 'x', 'c', 0, 'x');
  const cv::Mat part = whole(cv::Rect(0, 0, 2, 2));
  EXPECT_FALSE(part.isContinuous());
  EXPECT_EQ(hash_of(part), hash_of(part.clone()));
  EXPECT_NE(hash_of(part), hash_of(whole));
  EXPECT_EQ(hash_of(cv::Mat(whole.row(0).colRange(0, 2))),
            "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603");
}

}  // namespace
}  // namespace slipway
