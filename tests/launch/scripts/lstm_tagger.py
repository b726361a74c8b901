"""Part-of-speech tagger: one sentence a step, an LSTM over word embeddings, SGD and NLLLoss."""

import sys

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(1)
FAULT = sys.argv[1].removeprefix("--fault=") if len(sys.argv) > 1 else ""
WORDS = {
    "DET": ["the", "a", "every"],
    "ADJ": ["old", "red", "small"],
    "NN": ["dog", "apple", "book", "child"],
    "V": ["ate", "read", "saw"],
}
TAGS = {tag: index for index, tag in enumerate(WORDS)}
word_to_ix = {word: index for index, word in enumerate(word for words in WORDS.values() for word in words)}
ORDERS = [["DET", "NN", "V", "DET", "NN"], ["DET", "ADJ", "NN", "V", "NN"], ["NN", "V", "DET", "ADJ", "ADJ", "NN"]]
EMBEDDING_DIM, HIDDEN_DIM = 8, 12


def random_sentence():
    tags = ORDERS[torch.randint(len(ORDERS), ()).item()]
    words = [WORDS[tag][torch.randint(len(WORDS[tag]), ()).item()] for tag in tags]
    return torch.tensor([word_to_ix[word] for word in words]), torch.tensor([TAGS[tag] for tag in tags])


class LSTMTagger(nn.Module):
    def __init__(self, vocab_size, tagset_size):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, EMBEDDING_DIM)
        self.lstm = nn.LSTM(EMBEDDING_DIM, HIDDEN_DIM)
        self.hidden2tag = nn.Linear(HIDDEN_DIM, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        if FAULT == "detached":
            lstm_out = lstm_out.detach()
        tag_space = self.hidden2tag(lstm_out.view(len(sentence), -1))
        return F.log_softmax(tag_space, dim=1)


model = LSTMTagger(len(word_to_ix), len(TAGS))
loss_function = nn.NLLLoss()
optimizer = optim.SGD(model.parameters(), lr=0.5)

for epoch in range(100):
    model.zero_grad()
    sentence, tags = random_sentence()
    tag_scores = model(sentence)
    loss = loss_function(tag_scores, tags)
    loss.backward()
    optimizer.step()
    print(epoch, repr(loss.item()))

with torch.no_grad():
    print(model(sentence).argmax(1).tolist(), tags.tolist())
