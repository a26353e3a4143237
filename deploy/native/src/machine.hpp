// The machine as this process may use it.
#pragma once

namespace slipway {

// Cores: the processor affinity, cut by a container's quota.
int available_cores();

// Most resident memory that this process has had, in MiB.
double peak_rss_mib();

}  // namespace slipway
