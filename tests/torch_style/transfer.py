"""Transfer: a network trained on one task, its layers frozen, a new head for another task; then all of it, finely."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.optim as optim
from tinygrad_z2g.optim import lr_scheduler

torch.manual_seed(5)


class Backbone(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(inplace=True), nn.Dropout(p=0.1), nn.Linear(32, 32), nn.ReLU()
        )
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(self.features(x))


def rings(n):
    """Three rings around the middle."""
    which = torch.randint(0, 3, (n,))
    angle = 6.2832 * torch.rand(n)
    radius = which + 0.5 + 0.1 * torch.randn(n)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1), which


def train(model, optimizer, x, y, steps, scheduler=None):
    criterion, losses = nn.CrossEntropyLoss(), []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return (model(x).argmax(-1) == y).float().mean().item()


x, y = rings(300)
pretrained = Backbone(3)
pretrain_losses = train(pretrained, optim.Adam(pretrained.parameters(), lr=0.02), x, y, 150)
pretrained_accuracy = accuracy(pretrained, *rings(200))

# The other task: inside the middle ring or not. Few samples.
model = Backbone(3)
missing, unexpected = model.load_state_dict(
    {k: v for k, v in pretrained.state_dict().items() if not k.startswith("fc.")}, strict=False
)
for param in model.parameters():
    param.requires_grad = False
num_ftrs = model.fc.in_features
model.fc = nn.Linear(num_ftrs, 2)  # parameters of new modules have requires_grad=True
few_x, rings_of_few = rings(60)
few_y = (rings_of_few == 1).long()

trainable = [name for name, p in model.named_parameters() if p.requires_grad]
frozen_before = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
optimizer = optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.05, momentum=0.9)
exp_lr_scheduler = lr_scheduler.StepLR(optimizer, step_size=40, gamma=0.5)
head_losses = train(model, optimizer, few_x, few_y, 120, exp_lr_scheduler)
frozen_after = {name: p.detach().clone() for name, p in model.named_parameters() if name in frozen_before}
frozen_grads = [p.grad for name, p in model.named_parameters() if name in frozen_before]
test_x, rings_of_test = rings(300)
test_y = (rings_of_test == 1).long()
head_accuracy = accuracy(model, test_x, test_y)

# Then everything, the head with a larger rate
for p in model.features.parameters():
    p.requires_grad_(True)
optimizer = optim.AdamW(
    [{"params": model.features.parameters(), "lr": 1e-4}, {"params": model.fc.parameters(), "lr": 1e-3}],
    weight_decay=1e-2,
)
fine_losses = train(model, optimizer, few_x, few_y, 30)
moved = [
    name for name, p in model.named_parameters() if name in frozen_before and not torch.equal(p, frozen_before[name])
]
fine_accuracy = accuracy(model, test_x, test_y)
