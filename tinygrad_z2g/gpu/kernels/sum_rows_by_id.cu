// out[i] = Σ of the rows whose id is i.   ids (N,), rows (N, C), out (n, C), zero beforehand.
//
// `order` sorts the ids, so that equal ones stand side by side. The blocks (k, ·) look at place k of that order. Where a
// run of equal ids begins there, they add up its rows one after the other, each thread in a column of its own; elsewhere
// they have nothing to do. No two blocks write to one row, and the order of additions is fixed: the result is the
// same every time, as it would not be with atomicAdd. An id out of range is left out.
extern "C" __global__ void sum_rows_by_id(
    const long long* ids, const long long* order, const real* rows, real* out, long long N, int C, long long n) {
    long long k = blockIdx.x, id = ids[order[k]];
    if (id < 0 || id >= n || (k > 0 && ids[order[k - 1]] == id)) return;
    int j = blockIdx.y * blockDim.x + threadIdx.x;
    if (j >= C) return;
    real sum = 0;
    for (; k < N && ids[order[k]] == id; k++) sum += rows[order[k] * C + j];
    out[id * C + j] = sum;
}
