"""Skip-gram with negative sampling on a toy corpus: words that stand in the same places get similar vectors."""

from collections import Counter

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
import tinygrad_z2g.optim as optim

torch.manual_seed(0)
groups = {
    "animal": ["cat", "dog", "cow", "hen"],
    "food": ["bread", "soup", "rice", "cake"],
    "place": ["house", "garden", "barn", "street"],
}
verbs = {"animal": ["sleeps", "runs"], "food": ["tastes", "cools"], "place": ["stands", "lies"]}
text = []
for name in list(groups) * 160:
    noun = groups[name][torch.randint(4, (1,)).item()]
    verb = verbs[name][torch.randint(2, (1,)).item()]
    text += ["the", noun, verb]

counts = Counter(text)
vocab = sorted(counts, key=counts.get, reverse=True)
word2idx = {w: i for i, w in enumerate(vocab)}
freqs = torch.tensor([counts[w] for w in vocab], dtype=torch.float)
word_freqs = freqs / freqs.sum()
unigram_dist = word_freqs**0.75 / torch.sum(word_freqs**0.75)

window = 1
pairs = [
    (word2idx[text[i]], word2idx[text[j]])
    for i in range(len(text))
    for j in range(max(0, i - window), min(len(text), i + window + 1))
    if i != j
]


class SkipGramModel(nn.Module):
    def __init__(self, vocab_size, embed_dim):
        super().__init__()
        self.in_embed = nn.Embedding(vocab_size, embed_dim, sparse=False)
        self.out_embed = nn.Embedding(vocab_size, embed_dim)
        nn.init.uniform_(self.in_embed.weight, -0.5 / embed_dim, 0.5 / embed_dim)
        nn.init.zeros_(self.out_embed.weight)

    def forward(self, center, context, negatives):
        v = self.in_embed(center)  # (B, D)
        u = self.out_embed(context)  # (B, D)
        score = torch.sum(v * u, dim=1).clamp(min=-10, max=10)
        positive = F.logsigmoid(score)
        neg = self.out_embed(negatives)  # (B, K, D)
        neg_score = torch.bmm(neg, v.unsqueeze(2)).squeeze(2)
        negative = F.logsigmoid(-neg_score).sum(dim=1)
        return -(positive + negative).mean()


model = SkipGramModel(len(vocab), 8)
optimizer = optim.Adagrad(model.parameters(), lr=0.3)
data = torch.tensor(pairs)
losses = []
for epoch in range(8):
    for batch in torch.split(data[torch.randperm(len(data))], 128):
        center, context = batch[:, 0], batch[:, 1]
        negatives = torch.multinomial(unigram_dist, len(batch) * 3, replacement=True).view(len(batch), 3)
        optimizer.zero_grad()
        loss = model(center, context, negatives)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

vectors = model.in_embed.weight.detach()
normed = F.normalize(vectors, p=2, dim=1)
similarity = normed @ normed.t()


def nearest(word, k=3):
    values, indices = similarity[word2idx[word]].topk(k + 1)
    return [vocab[i] for i in indices.tolist()[1:]]


neighbours = {w: nearest(w) for name in groups for w in groups[name]}
cosine = nn.CosineSimilarity(dim=0)
cat_dog = cosine(vectors[word2idx["cat"]], vectors[word2idx["dog"]]).item()
cat_soup = F.cosine_similarity(vectors[word2idx["cat"]], vectors[word2idx["soup"]], dim=0).item()
