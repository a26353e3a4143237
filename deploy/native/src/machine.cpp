#include "machine.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

namespace slipway {

int available_cores() {
  const auto cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  // "max 100000" where there is no quota
  if (!(file >> quota >> period) || period <= 0) return cores;
  return std::clamp(static_cast<int>(std::lround(quota / period)), 1, cores);
}

double peak_rss_mib() {
  // `getrusage` still holds the parent's peak after fork and exec.
  std::ifstream file("/proc/self/status");
  std::string key;
  double kib = 0;
  while (file >> key) {
    if (key == "VmHWM:" && file >> kib) return kib / 1024;
    std::getline(file, key);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace slipway
