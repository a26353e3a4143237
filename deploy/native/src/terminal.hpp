// What a person at the terminal sees: lines on stderr, and how far the work is on its last line.
#pragma once

#include <string>

namespace slipway {

// A line on stderr.
void say(const std::string& message);

// How far the work is, on a terminal's last line; an empty text removes it. Nothing where stderr is no terminal.
void show_progress(const std::string& text);

// Whether Ctrl-C was pressed since `watch_interrupts`; a second one ends the process at once.
void watch_interrupts();
bool interrupted();

// For work that is of no use in part.
struct Interrupted {};
void stop_if_interrupted();  // throws Interrupted

}  // namespace slipway
