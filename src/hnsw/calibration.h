// What suits the data, found with some hundred of the rows as queries and their true neighbours.
//
// Before a build: in how few bits a row may be coded. The question is how far down in the order of the codes the true
// neighbours are; a width is good enough if looking at a few dozen candidates exactly finds them all. After it: which
// ef reaches the target recall. Rows are easier queries than strangers, so they must do
// better than strangers shall.
//
// Thread-safety: constant once made; the team works inside a call.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/build.h"
#include "hnsw/code.h"
#include "hnsw/graph.h"
#include "hnsw/team.h"

namespace ehub::hnsw {

class CalibrationSample {
 public:
  // Finds the true 10 nearest of the sampled rows by a scan of all.
  CalibrationSample(const KernelTable& kernels, const GraphInput& input, Team& team);

  // How many candidates, in the order of these codes, hold 99.9 % of the true neighbours.
  size_t depth(const KernelTable& kernels, const Encoder& encoder, const CodeSet& codes, Team& team) const;
  // The least ef of a ladder with which `graph` finds the true neighbours with this recall, or the highest.
  size_t ef_for(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, float target_recall,
                Team& team) const;

 private:
  struct Query {
    uint32_t row;
    std::vector<uint32_t> neighbors;
  };
  std::vector<CodedQuery> coded_queries(const Encoder& encoder, CodeWidth width) const;
  size_t found(const KernelTable& kernels, const Encoder& encoder, const GraphView& graph, size_t ef, Team& team) const;

  const GraphInput input_;
  std::vector<Query> queries_;
};

// The width for the walk, the width for the build, and how many candidates must be looked at exactly.
struct CodeChoice {
  CodeWidth walk = CodeWidth::k8;
  CodeWidth build = CodeWidth::k8;
  uint32_t rerank_min = 0;
};

}  // namespace ehub::hnsw
