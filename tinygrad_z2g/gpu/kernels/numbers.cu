// The numbers that the host computes anew before each launch of a captured step (see replay.py), into their places.
// They come by value, as adam.cu's tables do, so that the host need not wait before it writes the next step's.
#define NUMBERS 448  // the arguments of a kernel may take 4 KB

struct Numbers {
    unsigned long long x[NUMBERS];  // of whatever type: 8 bytes each
};

extern "C" __global__ void set_numbers(const Numbers numbers, unsigned long long* places, int n) {
    FOR_EACH(i, n) places[i] = numbers.x[i];
}
