"""REINFORCE: a walker in a corridor learns to go to the end where the reward is, by log-probabilities of its steps."""

import tinygrad_z2g as torch
import tinygrad_z2g.nn as nn
import tinygrad_z2g.nn.functional as F
import tinygrad_z2g.optim as optim
from tinygrad_z2g.distributions import Categorical

GAMMA, SIZE = 0.95, 6
eps = 1e-8


class Corridor:
    """Places 0 to SIZE - 1; the walk ends at either end, with 1 at the right one and 0 at the left one."""

    def reset(self):
        self.place, self.steps = 2, 0
        return self.state()

    def state(self):
        state = torch.zeros(SIZE)
        state[self.place] = 1
        return state

    def step(self, action):
        self.place += 1 if action == 1 else -1
        self.steps += 1
        done = self.place in (0, SIZE - 1) or self.steps == 20
        return self.state(), float(self.place == SIZE - 1), done


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(SIZE, 16)
        self.action_head = nn.Linear(16, 2)
        self.value_head = nn.Linear(16, 1)
        self.saved_log_probs, self.saved_values, self.entropies, self.rewards = [], [], [], []

    def forward(self, x):
        x = F.relu(self.affine1(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


torch.manual_seed(543)
env, policy = Corridor(), Policy()
optimizer = optim.Adam(policy.parameters(), lr=2e-2)


def select_action(state):
    probs, value = policy(state)
    m = Categorical(probs)
    action = m.sample()
    policy.saved_log_probs.append(m.log_prob(action))
    policy.saved_values.append(value)
    policy.entropies.append(m.entropy())
    return action.item()


def finish_episode():
    R, returns = 0, []
    for r in policy.rewards[::-1]:
        R = r + GAMMA * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    policy_losses, value_losses = [], []
    for log_prob, value, R in zip(policy.saved_log_probs, policy.saved_values, returns):
        advantage = R - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([R])))
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
    loss = loss - 0.01 * torch.stack(policy.entropies).mean()
    loss.backward()
    optimizer.step()
    del policy.rewards[:], policy.saved_log_probs[:], policy.saved_values[:], policy.entropies[:]


running_reward, history = 0.4, []
for i_episode in range(150):
    state, done, ep_reward = env.reset(), False, 0
    while not done:
        action = select_action(state)
        state, reward, done = env.step(action)
        policy.rewards.append(reward)
        ep_reward += reward
    running_reward = 0.05 * ep_reward + (1 - 0.05) * running_reward
    history.append(running_reward)
    finish_episode()

with torch.no_grad():
    probs, values = policy(torch.eye(SIZE))
right = probs[:, 1]
