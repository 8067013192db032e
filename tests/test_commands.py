"""The commands as a user calls them: one small life of a model, and mistakes.

One process runs them all, because importing seqio takes longer than all the
rest.
"""

import json
import re
import shutil

import numpy as np
import pytest

from jaxlm import loading, paths
from jaxlm.__main__ import main

SENTENCES = [
  "the cat sat on the mat and looked at the dog",
  "a dog ran over the hill to the old red house",
  "the old man read a long book in the small house",
  "she saw the red bird fly over the green hill",
  "the small bird sat in the green tree and sang",
  "a long day ended and the old dog slept at home",
]


def text(lines: int) -> str:
  rng = np.random.default_rng(0)
  made = []
  for i in range(lines):
    words = " ".join(rng.permutation(SENTENCES[i % 6].split()))
    made.append(words.capitalize() + ".")
    if i % 3 == 2:
      made.append("")
  return "\n".join(made) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("commands")
  (folder / "corpus.txt").write_text(text(600), encoding="utf-8")
  rows = ["sentence\tlabel"]
  for i, line in enumerate(text(120).split("\n")):
    if line:
      rows.append(f"{line}\t{'animal' if i % 2 else 'house'}")
  (folder / "train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
  return folder


@pytest.fixture(scope="module")
def flags(folder):
  return [
    f"--config.data.files={folder / 'corpus.txt'}",
    "--config.data.validation_share=0.1",
    "--config.data.length=32",
    "--config.tokenizer.vocab_size=256",
    "--config.batch_size=8",
    "--config.steps=6",
    "--config.log.every=2",
    "--config.log.tensorboard=False",
    "--config.evaluation.batches=2",
  ]


@pytest.fixture(scope="module")
def encoder(folder, flags):
  workdir = folder / "encoder"
  train = ["train", "--config=mosaicbert:tiny", f"--workdir={workdir}"]
  assert main(train + flags) == 0
  return workdir


@pytest.fixture(scope="module")
def decoder(folder, flags):
  workdir = folder / "decoder"
  train = ["train", "--config=gpt2:tiny", f"--workdir={workdir}"]
  assert main(train + flags + ["--config.tokenizer.vocab_size=400"]) == 0
  return workdir


def test_training_leaves_what_the_docs_promise(encoder):
  lines = (encoder / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]
  assert json.loads(lines[-1])["validation/loss"] > 0
  card = json.loads((encoder / "run.json").read_text())
  assert card["finished"] is True
  assert card["parameters"] == paths.count(loading.load(encoder).variables)
  names = {p.name for p in encoder.iterdir()}
  assert {"config.json", "tokenizer", "cache", "report.html"} <= names


def test_the_same_command_again_skips_all_and_says_so(encoder, flags, capsys):
  before = (encoder / "metrics.jsonl").read_bytes()
  params = loading.load(encoder).variables["params"]
  train = ["train", "--config=mosaicbert:tiny", f"--workdir={encoder}"]
  assert main(train + flags) == 0
  out = capsys.readouterr().out
  assert "unchanged" in out
  assert (encoder / "metrics.jsonl").read_bytes() == before
  again = loading.load(encoder).variables["params"]
  np.testing.assert_array_equal(
    again["embeddings"]["table"], params["embeddings"]["table"]
  )


def test_another_config_in_the_same_workdir_is_refused(encoder, flags, capsys):
  train = ["train", "--config=mosaicbert:tiny", f"--workdir={encoder}"]
  assert main(train + flags + ["--config.seed=7"]) == 2
  assert "seed: 0 there, 7 now" in capsys.readouterr().err


def test_data_shows_a_batch(encoder, flags, capsys):
  data = ["data", "--config=mosaicbert:tiny", f"--workdir={encoder}"]
  assert main(data + flags + ["--step=3", "--rows=2"]) == 0
  first = capsys.readouterr().out
  assert "[MASK]" in first
  assert main(data + flags + ["--step=3", "--rows=2"]) == 0
  assert capsys.readouterr().out == first
  assert main(data + flags + ["--step=4", "--rows=2"]) == 0
  assert capsys.readouterr().out != first
  assert main(data + flags + ["--stats=2"]) == 0
  told = capsys.readouterr().out
  assert "16 rows of text" in told and "tokens a word" in told


def test_data_of_labelled_rows(folder, capsys):
  data = [
    "data",
    "--config=finetune:classification",
    f"--workdir={folder / 'rows'}",
    f"--config.data.files={folder / 'train.tsv'}",
    "--config.data.text=sentence",
    "--config.tokenizer=dict(kind='wordpiece', vocab_size=256)",
    "--config.batch_size=8",
  ]
  assert main([*data, "--rows=8"]) == 0
  assert capsys.readouterr().out.count("    label ") == 8
  assert main([*data, "--stats=3"]) == 0
  told = capsys.readouterr().out
  counts = re.findall(r"(?:animal|house) [\d.]+% \((\d+)\)", told)
  assert sum(map(int, counts)) == 24 and "24 rows of text" in told
  assert "data.files: " in told and "tokens a word" in told


def test_tokenizer_reports_its_fit(encoder, flags, capsys):
  command = ["tokenizer", "--config=mosaicbert:tiny", f"--workdir={encoder}"]
  assert main(command + flags) == 0
  out = capsys.readouterr().out
  assert "unknown" in out and "words" in out


def test_dry_run_prints_parameters_and_cost(folder, flags, encoder, capsys):
  train = ["train", "--config=mosaicbert:tiny", f"--workdir={encoder}"]
  assert main(train + flags + ["--dry_run"]) == 0
  out = capsys.readouterr().out
  card = json.loads((encoder / "run.json").read_text())
  assert f"{card['parameters']:,} parameters" in out
  assert "memory" in out and "cost" in out


def test_fill(encoder, capsys):
  assert main(["fill", f"--checkpoint={encoder}", "The [MASK] sat."]) == 0
  assert capsys.readouterr().out.count("%") == 5
  assert main(["fill", f"--checkpoint={encoder}", "No mask."]) == 2
  assert "[MASK]" in capsys.readouterr().err


def test_generate(decoder, capsys):
  command = ["generate", f"--checkpoint={decoder}", "--max_new_tokens=5"]
  assert main([*command, "The old"]) == 0
  first = capsys.readouterr().out
  assert first.startswith("The old")
  assert main([*command, "The old"]) == 0
  assert capsys.readouterr().out == first


def test_export_and_import_keep_the_parameters(folder, decoder, capsys):
  out, back = folder / "hf", folder / "back"
  assert main(["export", f"--checkpoint={decoder}", f"--out={out}"]) == 0
  assert "largest_difference: 0" in capsys.readouterr().out
  assert main(["import", f"--from={out}", f"--out={back}"]) == 0
  one = loading.load(decoder).variables["params"]["embeddings"]["table"]
  two = loading.load(back).variables["params"]["embeddings"]["table"]
  np.testing.assert_array_equal(one, two)
  assert main(["import", f"--from={out}", f"--out={back}"]) == 2
  assert "is not empty" in capsys.readouterr().err


def test_finetuning_and_evaluation(folder, encoder, capsys):
  rows, workdir = folder / "train.tsv", folder / "task"
  train = [
    "train",
    "--config=finetune:classification",
    f"--workdir={workdir}",
    f"--config.init_from={encoder}",
    f"--config.data.files={rows}",
    f"--config.data.validation_files={rows}",
    "--config.data.text=sentence",
    "--config.data.length=32",
    "--config.steps=1 epochs",
    "--config.log.tensorboard=False",
  ]
  assert main(train) == 0
  capsys.readouterr()
  evaluate = ["evaluate", f"--checkpoint={workdir}", f"--files={rows}"]
  assert main(evaluate) == 0
  metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert metrics["count"] == 120
  written = (workdir / "predictions.jsonl").read_text().splitlines()[1:]
  right = [json.loads(w) for w in written]
  share = np.mean([r["label"] == r["prediction"] for r in right])
  assert metrics["accuracy"] == pytest.approx(share)
  wrong = [a.replace("text=sentence", "text=sentense") for a in train]
  wrong = [a.replace(str(workdir), str(workdir) + "2") for a in wrong]
  assert main(wrong) == 2
  assert "Did you mean 'sentence'" in capsys.readouterr().err


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["trian"], "Did you mean 'train'"),
    (["train", "--config=bert:tiny"], "--workdir"),
    (["train", "--confg=bert"], "--config"),
    (["doctor", "--wrkdir=x"], "Did you mean '--workdir'"),
    (["fill", "--checkpoint=/no/such/folder", "x"], "There is no folder"),
  ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
  assert main(arguments) == 2
  err = capsys.readouterr().err
  assert message in err
  assert "Traceback" not in err


@pytest.mark.parametrize(
  "change, message",
  [
    ("model.layers.layer.mixer.kind=atention", "Did you mean 'attention'"),
    ("model.layers.layer.mixer.hedas=2", "Did you mean 'heads'"),
    ("optimizer.kind=adanw", "Did you mean 'adamw'"),
    ("schedule.warmupp=1", "Did you mean 'warmup'"),
    ("objective.kind=maskedlm", "Did you mean 'masked_lm'"),
    ("data.lenght=8", "Did you mean 'length'"),
    ("data.files=/no/such.txt", "/no/such.txt"),
    ("mesh.data=3", "mesh"),
    ("batch_size=3", "batch"),
    ("model.width=33", "head"),
    ("steps=0", "steps"),
    ("precision.compute=float8", "float8"),
    ("data.corruption.rate=1.5", "rate"),
  ],
)
def test_mistakes_in_the_config(folder, flags, change, message, capsys):
  train = [
    "train",
    "--config=mosaicbert:tiny",
    f"--workdir={folder / 'mistakes'}",
    *flags,
    f"--config.{change}",
  ]
  assert main(train) == 2
  err = capsys.readouterr().err
  assert message in err
  assert "Traceback" not in err


def test_rows_longer_than_the_position_table(folder, flags, capsys):
  train = ["train", "--config=bert:tiny", f"--workdir={folder / 'long'}"]
  changes = ["--config.data.length=600", "--config.data.arrangement.kind=pairs"]
  assert main(train + flags + changes) == 2
  assert "600" in capsys.readouterr().err


def test_damaged_checkpoint_is_named(folder, encoder, flags, capsys):
  copy = folder / "damaged"
  shutil.copytree(encoder, copy)
  for file in (copy / "checkpoints").glob("*/params/d/*"):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  train = ["train", "--config=mosaicbert:tiny", f"--workdir={copy}"]
  assert main(train + flags) == 2
  assert "checkpoints" in capsys.readouterr().err
