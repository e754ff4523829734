"""Images in the manner of the first MNIST script: DataLoader, convolutions, a scheduler, accuracy by argmax."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
import tinygrad_z2g.optim as optim
from tinygrad_z2g.optim.lr_scheduler import StepLR
from tinygrad_z2g.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 6, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(54, 16)
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.pool(x)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def train(model, device, train_loader, optimizer):
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()


def test(model, device, test_loader):
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    return test_loss / len(test_loader.dataset), correct / len(test_loader.dataset)


torch.manual_seed(1)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Three kinds of pictures of 8 x 8: stripes across, stripes down, a blot; each with noise
labels = torch.arange(240) % 3
rows = torch.arange(8).view(1, 8, 1).expand(240, 8, 8)
columns = rows.transpose(1, 2)
shift = torch.randint(0, 4, (240, 1, 1))
across = ((rows + shift) % 4 < 2).float()
down = ((columns + shift) % 4 < 2).float()
blot = (((rows - 2 - shift) ** 2 + (columns - 4) ** 2) < 6).float()
kind = labels.view(-1, 1, 1)
pictures = torch.where(kind == 0, across, torch.where(kind == 1, down, blot))
pictures = (pictures + 0.2 * torch.randn(240, 8, 8)).unsqueeze(1)

dataset = TensorDataset(pictures, labels)
train_set, test_set = random_split(dataset, [180, 60])
train_loader = DataLoader(train_set, batch_size=10, shuffle=True, num_workers=0)
test_loader = DataLoader(test_set, batch_size=32)

model = Net().to(device)
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = StepLR(optimizer, step_size=1, gamma=0.9)
rates, results = [], [test(model, device, test_loader)]
for epoch in range(1, 7):
    train(model, device, train_loader, optimizer)
    results.append(test(model, device, test_loader))
    rates.append(optimizer.param_groups[0]["lr"])
    scheduler.step()
