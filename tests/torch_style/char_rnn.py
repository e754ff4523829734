"""Which language a name is from: names letter by letter through an LSTM, padded and packed into batches."""

import string

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g.nn.utils.rnn import pack_padded_sequence, pad_sequence
from tinygrad_z2g.utils.data import DataLoader, Dataset

all_letters = string.ascii_lowercase
n_letters = len(all_letters)
names = {
    "Italian": "rossi bianchi ferrari esposito romano colombo ricci marino greco bruno gallo conti costa giordano "
    "mancini rizzo lombardi moretti barbieri fontana santoro mariani rinaldi caruso ferrara galli martini leone",
    "Polish": "nowak kowalski wisniewski wojcik kowalczyk kaminski lewandowski zielinski szymanski wozniak dabrowski "
    "kozlowski jankowski mazur wojciechowski kwiatkowski krawczyk kaczmarek piotrowski grabowski zajac pawlowski "
    "michalski krol wieczorek jablonski wrobel nowakowski",
    "Japanese": "sato suzuki takahashi tanaka watanabe ito yamamoto nakamura kobayashi kato yoshida yamada sasaki "
    "yamaguchi matsumoto inoue kimura hayashi shimizu yamazaki mori abe ikeda hashimoto yamashita maeda fujita",
}
categories = sorted(names)


class NamesDataset(Dataset):
    def __init__(self, names):
        self.samples = [(name, categories.index(c)) for c in names for name in names[c].split()]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, idx):
        name, label = self.samples[idx]
        return torch.tensor([all_letters.index(c) for c in name], dtype=torch.long), torch.tensor(label)


def collate(batch):
    letters, labels = zip(*batch)
    lengths = torch.tensor([len(name) for name in letters])
    padded = pad_sequence(letters, batch_first=True)  # (B, T)
    return F.one_hot(padded, n_letters).float(), lengths, torch.stack(labels)


class CharLSTM(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.rnn(packed)
        return self.softmax(self.h2o(hidden[-1]))


torch.manual_seed(2024)
dataset = NamesDataset(names)
loader = DataLoader(dataset, batch_size=12, shuffle=True, collate_fn=collate)
rnn = CharLSTM(n_letters, 32, len(categories))
criterion = nn.NLLLoss()
optimizer = torch.optim.Adam(rnn.parameters(), lr=0.01)

all_losses = []
for epoch in range(25):
    rnn.train()
    current_loss = 0.0
    for x, lengths, y in loader:
        output = rnn(x, lengths)
        loss = criterion(output, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rnn.parameters(), 3)
        optimizer.step()
        current_loss += loss.item() * len(y)
    all_losses.append(current_loss / len(dataset))

# What it takes for what
confusion = torch.zeros(len(categories), len(categories))
rnn.eval()
with torch.no_grad():
    for x, lengths, y in DataLoader(dataset, batch_size=len(dataset), collate_fn=collate):
        guess = rnn(x, lengths).argmax(dim=1)
        for i in range(len(y)):
            confusion[y[i]][guess[i]] += 1
    confusion /= confusion.sum(dim=1, keepdim=True)

    # A batch of one gives what the padded batch gives
    x, lengths, _ = collate([dataset[0], dataset[1], dataset[2]])
    together = rnn(x, lengths)
    alone = torch.cat([rnn(*collate([dataset[i]])[:2]) for i in range(3)])


def predict(name, n_predictions=2):
    with torch.no_grad():
        letters = F.one_hot(torch.tensor([[all_letters.index(c) for c in name]]), n_letters).float()
        output = rnn(letters, torch.tensor([len(name)]))
        topv, topi = output.topk(n_predictions, 1, True)
        return [(topv[0][i].item(), categories[topi[0][i].item()]) for i in range(n_predictions)]


predictions = {name: predict(name) for name in ("kowalewski", "yamakawa", "rossini")}
