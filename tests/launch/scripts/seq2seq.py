"""Translation of number sequences into reverse: a GRU encoder, a decoder with attention, an optimizer for each."""

import argparse
import random

import torch
import torch.nn.functional as F
from torch import nn, optim

parser = argparse.ArgumentParser()
parser.add_argument("--fault", default="")
args = parser.parse_args()
random.seed(0)
torch.manual_seed(0)
SOS_token, vocabulary, length, hidden_size = 0, 8, 5, 32


class EncoderRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(0.1)

    def forward(self, inputs):
        return self.gru(self.dropout(self.embedding(inputs)))


class BahdanauAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.keys = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)
        self.calls = 0

    def forward(self, query, keys):
        scores = self.score(torch.tanh(self.query(query) + self.keys(keys))).transpose(1, 2)
        self.calls += 1
        if args.fault == "nan" and self.calls > 7 * length:
            scores = scores + 0 * torch.log(torch.zeros_like(scores))  # from the seventh step on
        return F.softmax(scores, dim=-1) @ keys


class AttnDecoderRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden_size)
        self.attention = BahdanauAttention()
        self.gru = nn.GRU(2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, vocabulary)

    def forward(self, encoder_outputs, hidden, targets=None):
        decoder_input = torch.full((encoder_outputs.size(0), 1), SOS_token)
        outputs = []
        for i in range(length):
            context = self.attention(hidden.permute(1, 0, 2), encoder_outputs)
            embedded = self.embedding(decoder_input)
            output, hidden = self.gru(torch.cat((embedded, context), dim=2), hidden)
            outputs.append(self.out(output))
            guess = outputs[-1].argmax(-1).detach()
            decoder_input = guess if targets is None else targets[:, i : i + 1]  # teacher forcing
        return F.log_softmax(torch.cat(outputs, dim=1), dim=-1)


def train_epoch(encoder, decoder, encoder_optimizer, decoder_optimizer, criterion):
    numbers = torch.tensor([[random.randrange(1, vocabulary) for _ in range(length)] for _ in range(32)])
    target = numbers.flip(1)
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    encoder_outputs, encoder_hidden = encoder(numbers)
    decoder_outputs = decoder(encoder_outputs, encoder_hidden, target if random.random() < 0.8 else None)
    loss = criterion(decoder_outputs.view(-1, vocabulary), target.reshape(-1))
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item()


encoder, decoder = EncoderRNN(), AttnDecoderRNN()
encoder_optimizer = optim.Adam(encoder.parameters(), lr=0.005)
decoder_optimizer = optim.Adam(decoder.parameters(), lr=0.005)
criterion = nn.NLLLoss()
for iteration in range(40):
    loss = train_epoch(encoder, decoder, encoder_optimizer, decoder_optimizer, criterion)
    print(iteration, repr(loss), random.random())
