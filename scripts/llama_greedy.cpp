// Continues token ids greedily with llama.cpp, for the test that holds written GGUF files against it:
//
//   llama_greedy MODEL.gguf COUNT ID...
//
// prints COUNT ids. Build it against a build of llama.cpp and name it in DANLU_LLAMA_GREEDY for `go test ./family`.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

int main(int argc, char ** argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: llama_greedy MODEL.gguf COUNT ID...\n");
        return 2;
    }
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) return 1;
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::vector<llama_token> ids;
    for (int i = 3; i < argc; i++) ids.push_back(atoi(argv[i]));
    for (int i = 0; i < atoi(argv[2]); i++) {
        if (llama_decode(ctx, llama_batch_get_one(ids.data(), ids.size()))) return 1;
        const float * logits = llama_get_logits_ith(ctx, -1);
        llama_token best = std::max_element(logits, logits + vocab) - logits;
        printf("%d ", best);
        ids = {best};
    }
    printf("\n");
}
