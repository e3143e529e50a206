// attention.cu against its definition in double precision. DIM is set by who compiles it.
#include "gpu.h"

#include "../common.cuh"
#include "tensor_core.cuh"
#include "../attention.cu"
#include "check.h"

struct Case {
    u32 batch, heads, queries, keys, dim;
    bool causal;
};

// Numbers, `heads` x `dim` a token, in rows that are longer than that, from `offset` on: as one layer that gives q, k and v leaves them.
struct Matrix {
    std::vector<bf16> numbers;
    u32 tokens, heads, dim;
    u64 step, offset;

    Matrix(const Case& c, u32 tokens, u64 step, u64 offset, Random& random)
        : numbers(c.batch * tokens * step), tokens(tokens), heads(c.heads), dim(c.dim), step(step), offset(offset) {
        for (bf16& number : numbers) {
            put(number, 2.0f * random.next());
        }
    }
    Strides strides() const { return {tokens * step, dim, step}; }
    const bf16* start() const { return numbers.data() + offset; }
    double at(u32 b, u32 head, u32 token, u32 d) const {
        return to_float(numbers[offset + (b * tokens + token) * step + head * dim + d]);
    }
};

static void run(const Case& c) {
    std::printf("heads of %u: %u pictures, %u heads, %u queries, %u keys%s\n", c.dim, c.batch, c.heads, c.queries, c.keys,
                c.causal ? ", causal" : "");
    Random random = {c.queries * 1000u + c.keys};
    u32 width = c.heads * c.dim;
    Matrix q(c, c.queries, 3 * width, 0, random), k(c, c.keys, 2 * width, 0, random), v(c, c.keys, 2 * width, width, random);
    Matrix dout(c, c.queries, width, 0, random);
    float scale = 1.0f / std::sqrt((float)c.dim);
    Sizes sizes = {c.heads, c.queries, c.keys, c.dim, c.causal, scale, scale * 1.44269504f};

    u32 rows = c.batch * c.heads;
    std::vector<bf16> out(c.batch * c.queries * width), dq(out.size()), dk(c.batch * c.keys * width), dv(dk.size());
    std::vector<float> logs(rows * c.queries, NAN), dots(logs);
    dim3 by_query = {rows, (c.queries + ROWS - 1) / ROWS}, by_key = {rows, (c.keys + ROWS - 1) / ROWS};
    gpu::launch(by_query, THREADS, attention_forward, q.start(), k.start(), v.start(), out.data(), logs.data(), q.strides(),
                k.strides(), v.strides(), sizes);
    gpu::launch({rows, (c.queries + WARPS - 1) / WARPS}, THREADS, attention_dots, out.data(), dout.start(), dots.data(), sizes);
    gpu::launch(by_query, THREADS, attention_queries, q.start(), k.start(), v.start(), dout.start(), logs.data(), dots.data(),
                dq.data(), q.strides(), k.strides(), v.strides(), sizes);
    gpu::launch(by_key, THREADS, attention_keys, q.start(), k.start(), v.start(), dout.start(), logs.data(), dots.data(), dk.data(),
                dv.data(), q.strides(), k.strides(), v.strides(), sizes);

    std::vector<double> out_right(out.size()), dq_right(dq.size()), dk_right(dk.size()), dv_right(dv.size());
    for (u32 b = 0; b < c.batch; b++) {
        for (u32 head = 0; head < c.heads; head++) {
            for (u32 i = 0; i < c.queries; i++) {
                u32 seen_here = c.causal ? i + 1 + c.keys - c.queries : c.keys;
                std::vector<double> weight(seen_here), dweight(seen_here);
                double total = 0.0, dot = 0.0;
                auto place = [&](u32 tokens, u32 token, u32 d) { return ((b * tokens + token) * c.heads + head) * c.dim + d; };
                for (u32 j = 0; j < seen_here; j++) {
                    double score = 0.0;
                    for (u32 d = 0; d < c.dim; d++) {
                        score += q.at(b, head, i, d) * k.at(b, head, j, d);
                        dweight[j] += dout.at(b, head, i, d) * v.at(b, head, j, d);
                    }
                    total += weight[j] = std::exp(score / std::sqrt((double)c.dim));
                }
                for (u32 j = 0; j < seen_here; j++) {
                    weight[j] /= total;
                    dot += weight[j] * dweight[j];
                }
                for (u32 j = 0; j < seen_here; j++) {
                    double dscore = weight[j] * (dweight[j] - dot) / std::sqrt((double)c.dim);
                    for (u32 d = 0; d < c.dim; d++) {
                        out_right[place(c.queries, i, d)] += weight[j] * v.at(b, head, j, d);
                        dq_right[place(c.queries, i, d)] += dscore * k.at(b, head, j, d);
                        dk_right[place(c.keys, j, d)] += dscore * q.at(b, head, i, d);
                        dv_right[place(c.keys, j, d)] += weight[j] * dout.at(b, head, i, d);
                    }
                }
            }
        }
    }
    // bf16 has 8 bits.
    expect("out", out_right, floats(out), 0.005);
    expect("dq", dq_right, floats(dq), 0.01);
    expect("dk", dk_right, floats(dk), 0.01);
    expect("dv", dv_right, floats(dv), 0.01);
}

int main() {
    for (u32 dim : {(u32)DIM, (u32)DIM - 24}) {
        run({2, 2, 70, 70, dim, false});
        run({1, 2, 70, 70, dim, true});
        run({2, 1, 3, 133, dim, true});
        run({1, 1, 130, 77, dim, false});
    }
    run({1, 1, 1, 1, DIM, true});
    run({1, 1, 1, 9, DIM, false});
    run({1, 2, 257, 257, DIM, true});
}
