#include "hnsw/build.h"

#include <span>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "hnsw/build_distances.h"
#include "hnsw/calibration.h"
#include "hnsw/connect.h"
#include "hnsw/inserter.h"
#include "hnsw/router.h"
#include "kernels/dispatch.h"

namespace ehub::hnsw {
namespace {

constexpr size_t kTaskRows = 1024;

// Deeper than this, the order of the codes is too far from the true one, and more bits are cheaper than more rows.
constexpr size_t kDepthMax = 64;

// A walk reads half as much with half the bits, until more candidates than this must be looked at exactly for it.
constexpr size_t kRerankMax = 64;

// A sampled row is an easier query than a stranger.
constexpr size_t kDepthMargin = 2;

Status cancelled() { return closed("the build of the index was cancelled"); }

// While a graph is built under inner product, rows have norms; in the end they have none.
void set_norms(const Encoder& encoder, const GraphInput& input, CodeTable& codes, Team& team) {
  if (input.metric != Metric::kInnerProduct) return;
  team.run(input.rows, kTaskRows, [&](size_t begin, size_t end, unsigned) {
    for (size_t row = begin; row < end; ++row) {
      codes.set_norm(row, encoder.build_norm(input.vectors + row * input.dims));
    }
  });
}

class GraphBuilder {
 public:
  GraphBuilder(const GraphInput& input, const GraphParameters& parameters, Team& team, BuildControl& control)
      : input_(input),
        parameters_(parameters),
        team_(team),
        control_(control),
        sample_(kernels(), input, team),
        graph_(
            std::make_unique<BuiltGraph>(Encoder::learn(input.metric, input.vectors, input.rows, input.dims, team))) {
    graph_->parameters = parameters;
  }

  // `given`: null to find the links here.
  Result<std::unique_ptr<BuiltGraph>> run(const GivenLinks* given) {
    choose_codes();
    if (control_.is_cancelled() || !link(given)) return cancelled();
    view().rows = static_cast<uint32_t>(input_.rows);
    encode_for_walk();
    view().calibration.ef =
        static_cast<uint32_t>(sample_.ef_for(kernels(), graph_->encoder, view(), parameters_.target_recall, team_));
    if (control_.is_cancelled()) return cancelled();  // the team may have left something out, here or before
    return std::move(graph_);
  }

 private:
  GraphView& view() { return graph_->view; }

  // The fewest bits with which the true neighbours are near the top. graph_->codes are then those of the build.
  void choose_codes() {
    for (const CodeWidth width : {CodeWidth::k8, CodeWidth::k16}) {
      graph_->codes = CodeTable(graph_->encoder, width, input_.vectors, input_.rows, team_);
      const size_t depth = sample_.depth(kernels(), graph_->encoder, graph_->codes.set(), team_);
      walk_width_ = width;
      view().calibration.rerank_min = static_cast<uint32_t>(kDepthMargin * depth);
      if (depth <= kDepthMax) return;
    }
    walk_width_ = CodeWidth::kNone;
    view().calibration.rerank_min = 0;
  }

  std::vector<uint32_t> choose_router(std::span<const uint32_t> nodes) const {
    const size_t count = router_rows_max(graph_->encoder.code_bytes(CodeWidth::k8));
    if (input_.metric != Metric::kInnerProduct) return spread_rows(nodes, count);
    return long_and_spread_rows(nodes, count, input_.vectors, input_.dims);
  }

  bool insert(const BuildDistances& distances, uint32_t* links, size_t stride) {
    Inserter inserter(distances, walk_codes(), input_.rows, view().twins, parameters_, team_);
    if (!inserter.insert_all(control_)) return false;
    inserter.finish(links, stride);
    return true;
  }

  bool link(const GivenLinks* given) {
    if (walk_width_ == CodeWidth::k8) try_fewer_bits();
    set_norms(graph_->encoder, input_, graph_->codes, team_);
    const BuildDistances distances(kernels(), input_.metric, graph_->codes.set(), input_.rows, team_);
    graph_->twins = Twins(input_.vectors, input_.rows, input_.dims);
    view().twins = graph_->twins.view();
    const size_t links_max = 2 * size_t{parameters_.M};
    const size_t stride = align_up(links_max, 16);
    graph_->links = Buffer(input_.rows * stride * sizeof(uint32_t));
    auto* links = reinterpret_cast<uint32_t*>(graph_->links.data());
    if (given != nullptr) {
      take_links(*given, distances, view().twins, input_.rows, links_max, team_, links, stride);
    } else if (!insert(distances, links, stride)) {
      return false;
    }
    if (control_.is_cancelled()) return false;
    const std::vector<uint32_t> nodes = node_rows(input_.rows, view().twins);
    GraphView built;
    built.rows = static_cast<uint32_t>(input_.rows);
    built.link_stride = static_cast<uint32_t>(stride);
    built.links = links;
    built.codes = graph_->codes.set();
    built.router = choose_router(nodes);
    graph_->unreachable = connect_rows(built, nodes, distances, parameters_.ef_construction, links, links_max);
    // Under inner product a row need not be among its own nearest.
    if (input_.metric != Metric::kInnerProduct) {
      make_findable(built, nodes, distances, walk_codes(), team_, links, links_max);
    }
    if (control_.is_cancelled()) return false;
    view().link_stride = built.link_stride;
    view().links = links;
    view().router = std::move(built.router);
    return true;
  }

  void encode_for_walk() {
    if (walk_width_ == CodeWidth::kNone) {
      graph_->codes = CodeTable();
      view().codes.width = CodeWidth::kNone;
      return;
    }
    if (input_.metric == Metric::kInnerProduct) {
      for (size_t row = 0; row < input_.rows; ++row) graph_->codes.set_norm(row, 0);
    }
    if (fewer_bits_.rows() != 0) graph_->codes = std::move(fewer_bits_);
    view().codes = graph_->codes.set();
    graph_->router_codes = CodeTable(graph_->codes, view().router);
    view().router_codes = graph_->router_codes.set();
  }

  CodeSet walk_codes() const { return fewer_bits_.rows() != 0 ? fewer_bits_.set() : graph_->codes.set(); }

  // Codes of 4 bits in place of those of 8, if they are shorter and good enough to walk by: links are chosen by those
  // of 8. Not under inner product, where errors grow with the rows and the longest rows are the answers.
  void try_fewer_bits() {
    const bool shorter =
        Encoder::code_bytes(CodeWidth::k4, input_.dims) < Encoder::code_bytes(CodeWidth::k8, input_.dims);
    if (!shorter || input_.metric == Metric::kInnerProduct) return;
    CodeTable fewer(graph_->encoder, CodeWidth::k4, input_.vectors, input_.rows, team_);
    const size_t looked_at = kDepthMargin * sample_.depth(kernels(), graph_->encoder, fewer.set(), team_);
    if (looked_at > kRerankMax) return;
    fewer_bits_ = std::move(fewer);
    view().calibration.rerank_min = static_cast<uint32_t>(looked_at);
  }

  const GraphInput& input_;
  const GraphParameters& parameters_;
  Team& team_;
  BuildControl& control_;
  CalibrationSample sample_;
  std::unique_ptr<BuiltGraph> graph_;
  CodeWidth walk_width_ = CodeWidth::k8;
  CodeTable fewer_bits_;  // to walk by; empty: the build's are walked by
};

}  // namespace

Result<std::unique_ptr<BuiltGraph>> build_graph(const GraphInput& input, const GraphParameters& parameters, Team& team,
                                                BuildControl& control) {
  EHUB_ASSERT(input.rows >= 1);
  return GraphBuilder(input, parameters, team, control).run(nullptr);
}

Result<std::unique_ptr<BuiltGraph>> adopt_graph(const GraphInput& input, const GivenLinks& given,
                                                const GraphParameters& parameters, Team& team, BuildControl& control) {
  EHUB_ASSERT(input.rows >= 1 && given.is_sound(input.rows));
  return GraphBuilder(input, parameters, team, control).run(&given);
}

}  // namespace ehub::hnsw
