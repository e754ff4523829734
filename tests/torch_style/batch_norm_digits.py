"""A convolution network with BatchNorm on digits of 8 x 8 pixels: residual blocks, the best weights kept."""

import copy

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
from tinygrad_z2g.utils.data import DataLoader, Dataset, random_split

drawn = """
.###. ..#.. .###. ####. ...#. ##### .###. ##### .###. .###.
#...# .##.. #...# ....# ..##. #.... #.... ....# #...# #...#
#...# ..#.. ....# ....# .#.#. ####. ####. ...#. .###. #...#
#...# ..#.. ..##. .###. #..#. ....# #...# ..#.. #...# .####
#...# ..#.. .#... ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. #.... ....# ...#. #...# #...# .#... #...# ....#
.###. .###. ##### ####. ...#. .###. .###. .#... .###. .###.
"""
rows = drawn.split()
glyphs = torch.stack([torch.tensor([[float(c == "#") for c in rows[10 * r + d]] for r in range(7)]) for d in range(10)])


class Digits(Dataset):
    """Each digit shifted, of another darkness, with noise."""

    def __init__(self, n, transform=None):
        self.labels = torch.randint(0, 10, (n,))
        images = torch.zeros(n, 1, 8, 8)
        for i, label in enumerate(self.labels):
            dy, dx = torch.randint(0, 2, (1,)).item(), torch.randint(0, 4, (1,)).item()
            images[i, 0, dy : dy + 7, dx : dx + 5] = glyphs[label]
        darkness = torch.empty(n, 1, 1, 1).uniform_(0.5, 1.0)
        self.images = images * darkness + 0.1 * torch.randn(n, 1, 8, 8)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image, label = self.images[idx], self.labels[idx]
        if self.transform:
            image = self.transform(image)
        return image, label


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer = nn.Sequential(ResidualBlock(8, 8), ResidualBlock(8, 16, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc = nn.Linear(16 * 2 * 2, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.avgpool(self.layer(self.stem(x)))
        return self.fc(torch.flatten(x, 1))


torch.manual_seed(7)
dataset = Digits(480, transform=lambda image: (image - 0.3) / 0.4)
train_set, val_set = random_split(dataset, [0.8, 0.2], generator=torch.Generator().manual_seed(42))
dataloaders = {
    "train": DataLoader(train_set, batch_size=32, shuffle=True, num_workers=0),
    "val": DataLoader(val_set, batch_size=96),
}
model = Net()
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.3, patience=1)

best_acc, best_model_wts, history = 0.0, None, {"train": [], "val": []}
for epoch in range(6):
    for phase in ["train", "val"]:
        model.train() if phase == "train" else model.eval()
        running_loss, running_corrects = 0.0, 0
        for inputs, labels in dataloaders[phase]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running_loss += loss.item() * inputs.size(0)
            running_corrects += torch.sum(preds == labels.data)
        epoch_loss = running_loss / len(dataloaders[phase].dataset)
        epoch_acc = running_corrects.double() / len(dataloaders[phase].dataset)
        history[phase].append((epoch_loss, epoch_acc.item()))
        if phase == "val":
            scheduler.step(epoch_acc)
            if epoch_acc > best_acc:
                best_acc = epoch_acc.item()
                best_model_wts = copy.deepcopy(model.state_dict())

model.load_state_dict(best_model_wts)
model.eval()
with torch.no_grad():
    images, labels = next(iter(dataloaders["val"]))
    accuracy = (model(images).argmax(1) == labels).float().mean().item()
    one_by_one = torch.cat([model(image.unsqueeze(0)) for image in images[:5]])
    all_at_once = model(images[:5])
tracked = model.stem[1].num_batches_tracked.item()
