"""Graph convolutional network: one full-batch step an epoch, a dense normalised adjacency matrix."""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn, optim

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--weight_decay", type=float, default=5e-4)
parser.add_argument("--hidden", type=int, default=16)
parser.add_argument("--dropout", type=float, default=0.5)
parser.add_argument("--fault", default="")
args = parser.parse_args()
torch.manual_seed(42)


def load_data(nodes=200, classes=4, words=32):
    """Random graph: nodes of a class are linked more often, and share words."""
    labels = torch.randint(classes, (nodes,))
    likelihood = torch.where(labels[:, None] == labels[None, :], 0.08, 0.01)
    links = torch.rand(nodes, nodes) < likelihood
    adj = (links | links.T).float() + torch.eye(nodes)
    adj = adj / adj.sum(1, keepdim=True)
    topics = torch.rand(classes, words) < 0.3
    features = ((torch.rand(nodes, words) < 0.4) & topics[labels] | (torch.rand(nodes, words) < 0.1)).float()
    features = features / features.sum(1, keepdim=True).clamp(min=1)
    return adj, features, labels, torch.arange(100), torch.arange(100, nodes)


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        bound = 1.0 / math.sqrt(out_features)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


adj, features, labels, idx_train, idx_test = load_data()
model = GCN(features.shape[1], args.hidden, 4, args.dropout)
if args.fault == "zero_weights":
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

for epoch in range(args.epochs):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    model.eval()  # without no_grad, as scripts often do
    output = model(features, adj)
    accuracy = output[idx_test].argmax(1).eq(labels[idx_test]).float().mean()
    print(f"Epoch: {epoch + 1:04d} loss_train: {loss_train.item()!r} acc_test: {accuracy.item()!r}")
