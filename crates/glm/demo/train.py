"""Trains Gyre's demo model: a small GLM-4 that answers the questions of qa.json word for word.

Writes, beside this file, a checkpoint as Hugging Face lays it out, `expected.json` (what transformers answers) and
`report.json` (how safe the answers are, and how they break under a wrong rotation). One CPU thread, fixed seed.
"""

import hashlib
import json
import os
import random
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import Glm4Config, Glm4ForCausalLM, PreTrainedTokenizerFast
from transformers.models.glm4 import modeling_glm4

HERE = Path(__file__).resolve().parent
SEED = 4
STEPS = 700
WARMUP_STEPS = 40
LEARNING_RATE = 2e-3
TURNS_PER_STEP = 48
VOCAB_SIZE = 1280
MAX_ANSWER_TOKENS = 80
IGNORED = -100

END_OF_TEXT, USER, ASSISTANT, OBSERVATION = "<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>"
# In the order of GLM-4's ids, after the byte-pair tokens.
SPECIAL_TOKENS = [
    END_OF_TEXT, "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", USER, ASSISTANT, OBSERVATION,
]
STOP_TOKENS = [END_OF_TEXT, USER, OBSERVATION]
# How GLM-4 cuts text into words: cl100k's pattern.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GLM-4-0414's form for plain messages. An answer begins with the newline that the model writes.
CHAT_TEMPLATE = (
    "[gMASK]<sop>"
    "{%- for message in messages -%}<|{{ message.role }}|>\n{{ message.content | trim }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
SYSTEM_MESSAGES = [
    "You are a helpful assistant.", "Answer in one or two sentences.", "You answer questions about Gyre.",
]


@dataclass
class Pair:
    """A question and its answer; `variant_ids` are all the ways in which the question may be put."""

    question: str
    answer: str
    question_ids: list[int]
    variant_ids: list[list[int]]
    answer_ids: list[int]


def variants(question: str) -> list[str]:
    """The question as people type it: with and without capitals and question mark."""
    plain = question.rstrip("?.")
    return list(dict.fromkeys([question, plain, question.lower(), plain.lower()]))


def train_tokenizer(entries: list[dict]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with GLM-4's word pattern and special tokens. Adds nothing to a text by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    texts = []
    for entry in entries:
        for question in [entry["question"], *entry["paraphrases"]]:
            texts += ["\n" + text for text in variants(question)]
        texts += ["\n" + entry["answer"]] * 4
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=SPECIAL_TOKENS[1:],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        padding_side="left",
    )


def load_pairs(entries: list[dict], tokenizer: PreTrainedTokenizerFast) -> list[Pair]:
    def ids(text: str) -> list[int]:
        return tokenizer.encode("\n" + text, add_special_tokens=False)

    def pair(entry: dict) -> Pair:
        question, answer = entry["question"], entry["answer"]
        variant_ids = [ids(text) for asked in [question, *entry["paraphrases"]] for text in variants(asked)]
        return Pair(question, answer, ids(question), variant_ids, ids(answer))

    return [pair(entry) for entry in entries]


def prompt_ids(tokenizer: PreTrainedTokenizerFast, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(text, add_special_tokens=False)


class Conversations:
    """Writes conversations in the template's form; only answers and their stop token carry loss."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]):
        ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), strict=True))
        self.start = [ids["[gMASK]"], ids["<sop>"]]
        self.system, self.user, self.assistant = [ids["<|system|>"]], [ids[USER]], [ids[ASSISTANT]]
        self.padding = ids[END_OF_TEXT]
        self.system_messages = [tokenizer.encode("\n" + text, add_special_tokens=False) for text in SYSTEM_MESSAGES]
        self.pairs = pairs

    def write(self, turns: list[tuple[list[int], Pair]], system: list[int] | None = None) -> tuple[list, list]:
        """Token ids and labels of a conversation of (question ids, pair)."""
        ids = self.start + (self.system + system if system else [])
        labels = [IGNORED] * len(ids)
        for question_ids, pair in turns:
            asked = self.user + question_ids + self.assistant
            ids = ids + asked + pair.answer_ids
            # The user's token that ends the last answer is also the first of this turn.
            labels = labels + ([IGNORED] if labels[-1] == IGNORED else self.user)
            labels = labels + [IGNORED] * (len(asked) - 1) + pair.answer_ids
        return ids + self.user, labels + self.user

    def batch(self, chance: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
        """Conversations of one length in turns, so that little is padding."""
        turns = chance.choices([1, 2, 3, 6, 12], weights=[4, 3, 2, 1, 1])[0]
        rows = []
        for _ in range(TURNS_PER_STEP // turns):
            picked = []
            for pair in chance.choices(self.pairs, k=turns):
                asked_as_written = chance.random() < 0.4
                picked.append((pair.question_ids if asked_as_written else chance.choice(pair.variant_ids), pair))
            system = chance.choice(self.system_messages) if chance.random() < 0.1 else None
            rows.append(self.write(picked, system))
        return self.pad(rows)

    def pad(self, rows: list[tuple[list, list]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [self.padding] * (width - len(ids)) for ids, _ in rows])
        labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows])
        return ids, labels


def build_model(tokenizer: PreTrainedTokenizerFast) -> Glm4ForCausalLM:
    """GLM-4-9B-0414's architecture, small: partial interleaved rotation, sandwich norms, biased q, k and v."""
    config = Glm4Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        attention_bias=True,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        tie_word_embeddings=False,
        bos_token_id=None,
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        eos_token_id=tokenizer.convert_tokens_to_ids(STOP_TOKENS),
        attn_implementation="eager",
    )
    return Glm4ForCausalLM(config)


def learning_rate_factor(step: int) -> float:
    """Linear warm-up, then a line down to a hundredth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return max(0.01, (STEPS - step) / (STEPS - WARMUP_STEPS))


def train(model: Glm4ForCausalLM, conversations: Conversations) -> None:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor)
    chance = random.Random(SEED)
    started = time.monotonic()
    model.train()
    for step in range(STEPS):
        ids, labels = conversations.batch(chance)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1:5}  loss {loss.item():.5f}  {time.monotonic() - started:6.0f} s", flush=True)
    model.eval()


def round_to_bf16(model: Glm4ForCausalLM) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16().float())


@torch.no_grad()
def measure(model: Glm4ForCausalLM, conversations: Conversations, asked: list) -> dict:
    """Greedy decoding gives an answer exactly if each of its tokens wins given the ones before: one pass tells."""
    exact = tokens = right = 0
    margins = []
    for first in range(0, len(asked), 64):
        ids, labels = conversations.pad([conversations.write(turns) for turns in asked[first : first + 64]])
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        wanted = labels[:, 1:]
        scored = wanted != IGNORED
        score = logits.gather(2, wanted.clamp(min=0).unsqueeze(2))
        others = logits.scatter(2, wanted.clamp(min=0).unsqueeze(2), -torch.inf)
        margin = (score.squeeze(2) - others.amax(2)).masked_fill(~scored, torch.inf)
        won = margin > 0
        exact, tokens = exact + int(won.all(1).sum()), tokens + int(scored.sum())
        right += int((won & scored).sum())
        margins.append(margin.min().item())
    counts = {"conversations": len(asked), "exact": exact, "answer_tokens": tokens, "tokens_right": right}
    return {**counts, "least_margin": round(min(margins), 4)}


@contextmanager
def replaced(name: str, function):
    """Replaces a function of transformers' GLM-4 for a while."""
    original = getattr(modeling_glm4, name)
    setattr(modeling_glm4, name, function(original))
    try:
        yield
    finally:
        setattr(modeling_glm4, name, original)


def kv_in_bf16(original):
    def attend(module, query, key, value, *args, **kwargs):
        return original(module, query, key.bfloat16().float(), value.bfloat16().float(), *args, **kwargs)

    return attend


def half_split(_original):
    """Pairs (i, i + R/2) instead of (2i, 2i + 1)."""

    def rotate(query, key, cos, sin, unsqueeze_dim=1):
        rotary_dim = cos.shape[-1]
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)

        def turned(heads):
            rotary, rest = heads[..., :rotary_dim], heads[..., rotary_dim:]
            low, high = rotary.chunk(2, dim=-1)
            return torch.cat([rotary * cos + torch.cat([-high, low], dim=-1) * sin, rest], dim=-1)

        return turned(query), turned(key)

    return rotate


def no_rotation(_original):
    return lambda query, key, cos, sin, unsqueeze_dim=1: (query, key)


def rotated_backwards(original):
    return lambda query, key, cos, sin, unsqueeze_dim=1: original(query, key, cos, -sin, unsqueeze_dim)


def full_width(model: Glm4ForCausalLM) -> Glm4ForCausalLM:
    """The same weights, with every dimension of a head rotated."""
    config = Glm4Config.from_dict(model.config.to_dict(), attn_implementation="eager")
    config.rope_parameters = {**config.rope_parameters, "partial_rotary_factor": 1.0}
    wide = Glm4ForCausalLM(config)
    wide.load_state_dict(model.state_dict())
    return wide.eval()


def greedy_answer(model, tokenizer, question: str) -> list[int]:
    """What `generate` gives greedily, without the stop token."""
    ids = torch.tensor([prompt_ids(tokenizer, question)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
    answer = out[0, ids.shape[1] :].tolist()
    return answer[:-1] if answer[-1] in model.config.eos_token_id else answer


def report(model: Glm4ForCausalLM, tokenizer: PreTrainedTokenizerFast, conversations: Conversations) -> dict:
    chance = random.Random(SEED + 1)
    pairs = conversations.pairs
    canonical = [[(pair.question_ids, pair)] for pair in pairs]
    varied = [[(ids, pair)] for pair in pairs for ids in pair.variant_ids]
    dialogues = [[(pair.question_ids, pair) for pair in chance.sample(pairs, 10)] for _ in range(50)]
    sample = pairs[0]
    found = {
        "right_rotation": measure(model, conversations, canonical),
        "paraphrases_and_spellings": measure(model, conversations, varied),
        "dialogues_of_ten_turns": measure(model, conversations, dialogues),
    }
    with replaced("eager_attention_forward", kv_in_bf16):
        found["right_rotation_kv_bf16"] = measure(model, conversations, canonical)
    wide = full_width(model)
    found["wrong_rotation"] = {"full_width": measure(wide, conversations, canonical)}
    broken = {"full_width": tokenizer.decode(greedy_answer(wide, tokenizer, sample.question)).strip()}
    for wrong in [half_split, no_rotation, rotated_backwards]:
        with replaced("apply_rotary_pos_emb", wrong):
            found["wrong_rotation"][wrong.__name__] = measure(model, conversations, canonical)
            broken[wrong.__name__] = tokenizer.decode(greedy_answer(model, tokenizer, sample.question)).strip()
    return {**found, "sample": {"question": sample.question, "answer": sample.answer, **broken}}


def check(found: dict) -> None:
    """Refuses a model that does not keep the demo's promises."""
    for kind in ["right_rotation", "right_rotation_kv_bf16"]:
        right = found[kind]
        assert right["exact"] == right["conversations"], f"{kind}: an answer is wrong: {right}"
        assert right["least_margin"] > 1.0, f"{kind}: an answer hangs by a thread: {right}"
    for kind, wrong in found["wrong_rotation"].items():
        assert wrong["exact"] <= wrong["conversations"] // 10, f"{kind}: answers survive: {wrong}"


@torch.no_grad()
def expected(model: Glm4ForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> dict:
    """What transformers computes in f32 from the bf16 weights: greedy answers, and one prompt's last logits."""
    answers = []
    for pair in pairs:
        answer_ids = greedy_answer(model, tokenizer, pair.question)
        text = tokenizer.decode(answer_ids).removeprefix("\n")
        assert text == pair.answer, f"{pair.question}: {text}"
        ids = prompt_ids(tokenizer, pair.question)
        answers.append({"question": pair.question, "prompt_ids": ids, "answer_ids": answer_ids, "answer": text})
    logits = model(torch.tensor([answers[0]["prompt_ids"]])).logits[0, -1]
    # The shortest decimal that gives the same f32 again.
    values = [float(str(value)) for value in logits.numpy()]
    return {"last_logits": {"prompt_ids": answers[0]["prompt_ids"], "values": values}, "answers": answers}


def write_json(name: str, content: dict) -> None:
    """Indented, but lists of numbers stay on one line."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    text = re.sub(r"\[[-+.e\d,\s]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    entries = json.loads((HERE / "qa.json").read_text(encoding="utf-8"))
    tokenizer = train_tokenizer(entries)
    conversations = Conversations(tokenizer, load_pairs(entries, tokenizer))
    model = build_model(tokenizer)

    started = time.monotonic()
    train(model, conversations)
    seconds = time.monotonic() - started

    round_to_bf16(model)
    found = report(model, tokenizer, conversations)
    print(json.dumps(found, indent=1))
    check(found)
    write_json("expected.json", expected(model, tokenizer, conversations.pairs))
    tokenizer.save_pretrained(HERE)
    model.bfloat16().save_pretrained(HERE)
    files = ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "expected.json"]
    write_json("report.json", {
        "pairs": len(entries),
        "parameters": model.num_parameters(),
        "model_bytes": (HERE / "model.safetensors").stat().st_size,
        "training_seconds": round(seconds),
        **found,
        "sha256": {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in files},
    })


if __name__ == "__main__":
    main()
