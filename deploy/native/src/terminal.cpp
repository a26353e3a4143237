#include "terminal.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace slipway {
namespace {

volatile std::sig_atomic_t interrupt_seen = 0;

}  // namespace

void say(const std::string& message) {
  show_progress("");
  std::fprintf(stderr, "%s\n", message.c_str());
}

void show_progress(const std::string& text) {
  static const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal) std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
}

void watch_interrupts() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupt_seen = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupt_seen != 0; }

void stop_if_interrupted() {
  if (interrupted()) throw Interrupted();
}

}  // namespace slipway
