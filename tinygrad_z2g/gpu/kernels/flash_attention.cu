// Attention that never holds p: z = p v and its gradients, tile by tile. (Dao et al. 2022, arXiv:2205.14135)
//
// p is as large as the square of the sequence. Here a block of threads owns OWN rows of one side (queries, or keys with
// their values) and walks over the other side, 32 rows at a time: of p it ever has OWN x 32 numbers. A softmax needs the
// sum of its whole row, which is known at the end only; so it is computed for what was seen so far and corrected as the
// walk goes on. Of all p two numbers per query are kept, its largest score m and its total Σ e^(s - m): with them
// p = e^(s - m) / total is quickly computed again by the backward pass, from q and k. (m + ln total in one number would
// not do: near -1e9, which a mask may add to a whole row, float32 has only every 64th number, and ln total is lost.)
//
// q, grad, z, grad_q: (heads, T, d or e); k, v, grad_k, grad_v: (heads, S, d or e); largest, totals, D: (heads, T);
// d, e <= HEAD.
//
// Warp y (32 threads of the same threadIdx.y) takes the rows ROWS y, ..., ROWS y + ROWS - 1 of those owned. Scores: its
// thread x takes row x of the tile. Sums of rows: its thread x takes the columns x, x + 32, ....

const int ROWS = 2, WARPS = 8, OWN = ROWS * WARPS, TILE = 32;
const int HEAD = 512 / sizeof(real), COLUMNS = HEAD / 32;
const int STEP = HEAD + 1;  // between rows: 32 threads that read one column of 32 rows then read from 32 memory banks

// What is the same for every head.
struct Problem {
    const real* bias;      // (bias_rows, S), or null: row i of the scores takes row i % bias_rows
    long long bias_rows;
    int causal, T, S, d, e;
    real scale;
    unsigned int key, threshold;  // dropout, see common.cu; threshold 0: none
    real kept;
};

#define PROBLEM                                                                                                    \
    const real *bias, long long bias_rows, int causal, int T, int S, int d, int e, real scale, unsigned int key,   \
        const unsigned int *key_at, unsigned int threshold, real kept
#define GIVEN {bias, bias_rows, causal, T, S, d, e, scale, key_at ? *key_at : key, threshold, kept}

// Whether query i sees key j; beyond the matrices there is neither.
__device__ bool sees(const Problem& a, int i, int j) { return i < a.T && j < a.S && (!a.causal || j <= i); }

// s = scale q·k + bias of query number `row` among those of all heads
__device__ real score(const Problem& a, real dot, long long row, int j) {
    return a.scale * dot + (a.bias ? a.bias[row % a.bias_rows * a.S + j] : 0);
}

// What dropout multiplies p by at (row, j).
__device__ real mask(const Problem& a, long long row, int j) {
    return a.threshold ? dropped_or_kept(row * a.S + j, a.key, a.threshold, a.kept) : 1;
}

// Rows first, first + 1, ... of a matrix into a tile; zeros where it ends. All threads of the block load together.
__device__ void load(real* tile, int rows, const real* matrix, int first, int end, int width) {
    for (int row = threadIdx.y; row < rows; row += WARPS)
        for (int c = threadIdx.x; c < width; c += 32)
            tile[row * STEP + c] = first + row < end ? matrix[(long long)(first + row) * width + c] : 0;
}

// The same in place of a tile that others may still be reading; afterwards all may read it.
__device__ void replace(real* tile, const real* matrix, int first, int end, int width) {
    __syncthreads();
    load(tile, TILE, matrix, first, end, width);
    __syncthreads();
}

// own row · row x of the tile
__device__ real dot(const real* own, const real* tile, int width) {
    real sum = 0;
    for (int c = 0; c < width; c++) sum += own[c] * tile[threadIdx.x * STEP + c];
    return sum;
}

// sums (ROWS, width) += weights (ROWS, 32) · tile (32, width), for the rows of this warp
__device__ void add_rows(real sums[ROWS][COLUMNS], const real weights[OWN][TILE], const real* tile, int width) {
    for (int j = 0; j < TILE; j++)
        for (int g = 0; g < COLUMNS; g++) {
            int c = threadIdx.x + 32 * g;
            if (c < width)
                for (int r = 0; r < ROWS; r++) sums[r][g] += weights[threadIdx.y * ROWS + r][j] * tile[j * STEP + c];
        }
}

// factor · sums into the rows of a matrix that this warp owns.
__device__ void store(real* matrix, int first, int end, int width, real sums[ROWS][COLUMNS], real factor) {
    for (int r = 0; r < ROWS; r++) {
        int row = first + threadIdx.y * ROWS + r;
        for (int g = 0; g < COLUMNS; g++) {
            int c = threadIdx.x + 32 * g;
            if (row < end && c < width) matrix[(long long)row * width + c] = factor * sums[r][g];
        }
    }
}

// z = p v, largest and totals. The block owns queries. With m the largest score so far, total = Σ e^(s - m) and the
// sums Σ e^(s - m) v grow tile by tile; a larger m shrinks both by e^(old m - m).
extern "C" __global__ void flash_attention(
    const real* q, const real* k, const real* v, real* z, real* largest, real* totals, PROBLEM) {
    Problem a = GIVEN;
    __shared__ real queries[OWN * STEP], tile[TILE * STEP], weights[OWN][TILE];
    int blocks = (T + OWN - 1) / OWN, first = blockIdx.x % blocks * OWN;
    long long head = blockIdx.x / blocks;
    load(queries, OWN, q + head * T * d, first, T, d);
    real m[ROWS], total[ROWS], sums[ROWS][COLUMNS] = {};
    for (int r = 0; r < ROWS; r++) m[r] = LOWEST, total[r] = 0;
    int end = causal ? min(first + OWN, S) : S;  // no later key is seen
    for (int start = 0; start < end; start += TILE) {
        replace(tile, k + head * S * d, start, S, d);
        for (int r = 0; r < ROWS; r++) {
            int own = threadIdx.y * ROWS + r, i = first + own, j = start + threadIdx.x;
            bool seen = sees(a, i, j);
            real s = dot(queries + own * STEP, tile, d);
            s = seen ? score(a, s, head * T + i, j) : LOWEST;
            real larger = max(m[r], max_of_row(s)), shrink = exp(m[r] - larger), p = seen ? exp(s - larger) : 0;
            m[r] = larger;
            total[r] = total[r] * shrink + p;  // of this thread's keys
            for (int g = 0; g < COLUMNS; g++) sums[r][g] *= shrink;
            weights[own][threadIdx.x] = p * mask(a, head * T + i, j);
        }
        replace(tile, v + head * S * e, start, S, e);
        add_rows(sums, weights, tile, e);
    }
    for (int r = 0; r < ROWS; r++) {
        int i = first + threadIdx.y * ROWS + r;
        real all = sum_of_row(total[r]);
        if (all == 0) all = 1;  // a query that may look nowhere attends to nothing
        if (i < T && threadIdx.x == 0) largest[head * T + i] = m[r], totals[head * T + i] = all;
        for (int g = 0; g < COLUMNS; g++) sums[r][g] /= all;
    }
    store(z + head * T * e, first, T, e, sums, 1);
}

// grad_q, and D = Σ p ∂L/∂p, which the other kernel needs too. The block owns queries.
//
// With the mask of dropout u, z = Σ p u v: ∂L/∂p = u grad·v, so D = Σ p u grad·v = grad·z. Then through the softmax:
// ∂L/∂s = p (∂L/∂p - D), grad_q = scale Σ ∂L/∂s k.
extern "C" __global__ void flash_attention_grad_q(
    const real* grad, const real* q, const real* k, const real* v, const real* z, const real* largest,
    const real* totals, real* D, real* grad_q, PROBLEM) {
    Problem a = GIVEN;
    __shared__ real queries[OWN * STEP], grads[OWN * STEP], tile[TILE * STEP], weights[OWN][TILE];
    int blocks = (T + OWN - 1) / OWN, first = blockIdx.x % blocks * OWN;
    long long head = blockIdx.x / blocks;
    load(queries, OWN, q + head * T * d, first, T, d);
    load(grads, OWN, grad + head * T * e, first, T, e);
    real sums[ROWS][COLUMNS] = {}, dots[ROWS], p[ROWS];
    for (int r = 0; r < ROWS; r++) {
        long long i = first + threadIdx.y * ROWS + r, at = (head * T + i) * e;
        real sum = 0;
        for (int c = threadIdx.x; c < e; c += 32) sum += i < T ? grad[at + c] * z[at + c] : 0;
        dots[r] = sum_of_row(sum);
        if (i < T && threadIdx.x == 0) D[head * T + i] = dots[r];
    }
    int end = causal ? min(first + OWN, S) : S;
    for (int start = 0; start < end; start += TILE) {
        replace(tile, k + head * S * d, start, S, d);
        for (int r = 0; r < ROWS; r++) {
            int own = threadIdx.y * ROWS + r, i = first + own, j = start + threadIdx.x;
            long long row = head * T + i;
            real s = dot(queries + own * STEP, tile, d);
            p[r] = sees(a, i, j) ? exp(score(a, s, row, j) - largest[row]) / totals[row] : 0;
        }
        replace(tile, v + head * S * e, start, S, e);
        for (int r = 0; r < ROWS; r++) {
            int own = threadIdx.y * ROWS + r, j = start + threadIdx.x;
            real grad_p = mask(a, head * T + first + own, j) * dot(grads + own * STEP, tile, e);
            weights[own][threadIdx.x] = p[r] * (grad_p - dots[r]);
        }
        replace(tile, k + head * S * d, start, S, d);
        add_rows(sums, weights, tile, d);
    }
    store(grad_q + head * T * d, first, T, d, sums, scale);
}

// grad_k = scale Σ ∂L/∂s q and grad_v = Σ p u grad, sums over queries. The block owns keys and their values: no other
// block writes to them, so nothing need be added atomically, and the order of additions is always the same.
extern "C" __global__ void flash_attention_grad_kv(
    const real* grad, const real* q, const real* k, const real* v, const real* largest, const real* totals,
    const real* D, real* grad_k, real* grad_v, PROBLEM) {
    Problem a = GIVEN;
    __shared__ real keys[OWN * STEP], values[OWN * STEP], tile[TILE * STEP], used[OWN][TILE], weights[OWN][TILE];
    int blocks = (S + OWN - 1) / OWN, first = blockIdx.x % blocks * OWN;
    long long head = blockIdx.x / blocks;
    load(keys, OWN, k + head * S * d, first, S, d);
    load(values, OWN, v + head * S * e, first, S, e);
    real for_k[ROWS][COLUMNS] = {}, for_v[ROWS][COLUMNS] = {}, p[ROWS], u[ROWS];
    for (int start = causal ? first : 0; start < T; start += TILE) {  // no earlier query sees these keys
        int i = start + threadIdx.x;
        long long row = head * T + i;
        replace(tile, q + head * T * d, start, T, d);
        for (int r = 0; r < ROWS; r++) {
            int own = threadIdx.y * ROWS + r, j = first + own;
            real s = dot(keys + own * STEP, tile, d);
            p[r] = sees(a, i, j) ? exp(score(a, s, row, j) - largest[row]) / totals[row] : 0;
            u[r] = mask(a, row, j);
            used[own][threadIdx.x] = p[r] * u[r];
        }
        replace(tile, grad + head * T * e, start, T, e);
        add_rows(for_v, used, tile, e);
        for (int r = 0; r < ROWS; r++) {
            int own = threadIdx.y * ROWS + r;
            weights[own][threadIdx.x] = p[r] * (u[r] * dot(values + own * STEP, tile, e) - (i < T ? D[row] : 0));
        }
        replace(tile, q + head * T * d, start, T, d);
        add_rows(for_k, weights, tile, d);
    }
    store(grad_k + head * S * d, first, S, d, for_k, scale);
    store(grad_v + head * S * e, first, S, e, for_v, 1);
}
