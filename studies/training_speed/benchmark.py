"""Speed of training and encoding, beside Keras's own layers and beside PyTorch.

    python studies/training_speed/benchmark.py                 three rounds on all cores of this machine
    python studies/training_speed/benchmark.py --threads 1     one core and processor time, which others hardly touch
    python studies/training_speed/benchmark.py --isa AVX2      as on a processor without AVX-512

Each measurement is a process of its own. The implementations take turns, in another order in each round, so that a
machine that is faster at one hour than at another is so for all. Rows go to data/training_speed/speed.csv and take the
place of earlier ones with the same processor, instruction set and number of threads. Seconds are those of the clock;
with one thread they are processor time, but for epochs. Needs the extra `bench`.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[2] / "data" / "training_speed" / "speed.csv"
MEASURED = (
    "round",
    "what",
    "objective",
    "implementation",
    "seconds_per_scan",
    "peak_mb",
    "load",
    "note",
)
BATCH, ENCODED, LATENT = 16, 32, 32
KERAS = ("keras-default", "keras-onednn", "kernels")
TORCH = ("torch", "torch-channels-last", "torch-compile", "torch-compile-channels-last")
GROUPS = [
    *(
        [("step", objective, implementation) for implementation in (*KERAS, *TORCH)]
        for objective in ("vae", "introvae")
    ),
    [("encode", "both", implementation) for implementation in (*KERAS, *TORCH)],
    [("epochs", objective, "kernels") for objective in ("vae", "introvae")],
]


def median_seconds(step, clock, warm: int = 3, repeats: int = 12, limit: float = 40.0) -> float:
    "Median time of a call; fewer than `repeats`, but at least three, where they take longer than `limit` seconds."
    for _ in range(warm):
        step()
    times, begun = [], time.perf_counter()
    while len(times) < 3 or (len(times) < repeats and time.perf_counter() - begun < limit):
        start = clock()
        step()
        times.append(clock() - start)
    return float(np.median(times))


def volumes_of_noise(count: int) -> np.ndarray:
    "Volumes of the right size; their content does not matter to the time."
    return np.random.default_rng(0).uniform(size=(count, 40, 48, 40, 1)).astype("float32")


def peak_mb() -> float:
    "The most memory this process has held, megabytes."
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


# Keras


def keras_model(objective: str, fused: bool):
    "The model as `train` makes it; `fused` says whether with the kernels of this package."
    from msvae_nbdev.model.introvae import IntroVAE
    from msvae_nbdev.model.networks import build_decoder, build_encoder, keras
    from msvae_nbdev.model.vae import VAE

    networks = build_encoder(LATENT), build_decoder(LATENT)
    model = (
        VAE(*networks, seed=0) if objective == "vae" else IntroVAE(*networks, margin=100.0, seed=0)
    )
    if not fused:
        model.encode, model.decode = model.encoder, model.decoder
    model.compile(optimizer=keras.optimizers.Adam(2e-4))
    if objective == "introvae":
        model.start_adversarial()
    return model


def measure_keras(what: str, objective: str, implementation: str, threads: int, clock) -> dict:
    "A training step or the encoder, with Keras's layers or with our kernels."
    import tensorflow as tf  # before msvae_nbdev: oneDNN is as the environment says

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras_model("vae" if objective == "both" else objective, implementation == "kernels")
    if what == "encode":
        encode = tf.function(lambda volumes: model.encode(volumes, training=False)[0])
        volumes = tf.constant(volumes_of_noise(ENCODED))
        return {
            "seconds_per_scan": median_seconds(lambda: encode(volumes).numpy(), clock) / ENCODED
        }
    step, volumes = tf.function(model.train_step), tf.constant(volumes_of_noise(BATCH))
    taken = median_seconds(lambda: step(volumes)["loss"].numpy(), clock)
    return {"seconds_per_scan": taken / BATCH, "peak_mb": peak_mb()}


def measure_epochs(objective: str, prepared: Path) -> list:
    "Seconds of the first epoch and of those after it, of each phase, as history.csv has them."
    from msvae_nbdev.model.training import train

    epochs, warmup = (5, None) if objective == "vae" else (8, 4)
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            prepared,
            Path(folder) / "run",
            objective,
            epochs=epochs,
            warmup_epochs=warmup,
            verbose=0,
        )
        history = run.history
    per_scan, rows = history.seconds / history.scans, []
    for name, phase in (
        ("", per_scan[:warmup]),
        ("adversarial ", per_scan[warmup:] if warmup else per_scan[:0]),
    ):
        if len(phase):
            first = {"what": f"first {name}epoch", "seconds_per_scan": phase.iloc[0]}
            rows += [
                first,
                {"what": f"later {name}epochs", "seconds_per_scan": phase.iloc[1:].median()},
            ]
    return rows


# PyTorch


def torch_networks():
    "The encoder and the decoder of `msvae_nbdev.model.networks`, layer by layer."
    from torch import nn

    def normalise(kind, count):
        return [kind(count, eps=1e-3, momentum=0.1), nn.LeakyReLU(0.2)]

    def dense(inputs):
        return [
            nn.Linear(inputs, 512, bias=False),
            *normalise(nn.BatchNorm1d, 512),
            nn.Dropout(0.05),
        ]

    def down(inputs, count):
        return [
            nn.Conv3d(inputs, count, 3, padding=1, bias=False),
            nn.AvgPool3d(2),
            *normalise(nn.BatchNorm3d, count),
        ]

    def up(inputs, count):
        last = count == 1
        return [
            *normalise(nn.BatchNorm3d, inputs),
            nn.ConvTranspose3d(inputs, count, 4, 2, 1, bias=last),
        ]

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                *down(1, 16), *down(16, 32), *down(32, 64), nn.Flatten(), *dense(9600)
            )
            self.mean, self.log_variance = nn.Linear(512, LATENT), nn.Linear(512, LATENT)
            nn.init.normal_(self.log_variance.weight, std=1e-3)
            nn.init.constant_(self.log_variance.bias, -2.0)

        def forward(self, volumes):
            features = self.features(volumes)
            return self.mean(features), self.log_variance(features)

    decoder = nn.Sequential(
        *dense(LATENT), nn.Linear(512, 9600, bias=False), nn.Unflatten(1, (64, 5, 6, 5)),
        *up(64, 32), *up(32, 16), *up(16, 1), nn.Sigmoid(),
    )  # fmt: skip
    return Encoder(), decoder


class TorchModel:
    """The same networks, losses and updates as `VAE` and `IntroVAE`.

    Nothing is computed twice, but that torch.compile's way back to the encoder also computes gradients of the
    decoder's weights.
    """

    def __init__(self, objective: str, channels_last: bool, compiled: bool):
        import torch

        self.torch = torch
        networks = list(torch_networks())
        if channels_last:
            networks = [network.to(memory_format=torch.channels_last_3d) for network in networks]
        if objective == "introvae":
            kinds = torch.nn.BatchNorm1d, torch.nn.BatchNorm3d
            for layer in (
                layer
                for network in networks
                for layer in network.modules()
                if isinstance(layer, kinds)
            ):
                layer.eval().requires_grad_(
                    False
                )  # the adversarial phase uses running statistics; dropout stays
        self.learnt = [
            [weight for weight in network.parameters() if weight.requires_grad]
            for network in networks
        ]
        self.optimizers = [
            torch.optim.Adam(weights, 2e-4, eps=1e-7, fused=True) for weights in self.learnt
        ]
        if compiled:
            torch._functorch.config.donated_buffer = False  # the adversarial step goes back twice
            networks = [torch.compile(network, dynamic=False) for network in networks]
        self.encoder, self.decoder = networks

    def kl(self, mean, log_variance):
        return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)

    def draw(self, mean, log_variance):
        return mean + (0.5 * log_variance).exp() * self.torch.randn_like(mean)

    def error(self, volumes, images):
        return ((volumes - images) ** 2).sum((1, 2, 3, 4)).mean()

    def apply(self, number: int, gradients) -> None:
        "Update the encoder (0) or the decoder (1)."
        for weight, gradient in zip(self.learnt[number], gradients):
            weight.grad = gradient
        self.optimizers[number].step()

    def vae_step(self, volumes) -> float:
        code = self.encoder(volumes)
        loss = self.error(volumes, self.decoder(self.draw(*code))) + self.kl(*code).mean()
        gradients = self.torch.autograd.grad(loss, self.learnt[0] + self.learnt[1])
        self.apply(0, gradients[: len(self.learnt[0])])
        self.apply(1, gradients[len(self.learnt[0]) :])
        return loss.item()

    def introvae_step(self, volumes) -> float:
        "The encoder's update; then the decoder's, through the updated encoder and what the first pass has recorded."
        gradient, kl_weight, negative_weight, margin = self.torch.autograd.grad, 1.0, 1.25, 100.0
        code = self.encoder(volumes)
        prior = self.torch.randn_like(code[0])
        images = self.decoder(self.torch.cat([self.draw(*code), prior]))
        reconstruction = self.error(volumes, images[: len(volumes)])
        kls = self.kl(*self.encoder(images.detach())).view(2, -1).mean(1)
        hinges = (margin - kls).clamp(min=0).sum()
        loss = reconstruction + kl_weight * (self.kl(*code).mean() + 0.5 * negative_weight * hinges)
        self.apply(0, gradient(loss, self.learnt[0], retain_graph=True))
        ends = images.detach().requires_grad_()
        kl_loss = 0.5 * kl_weight * self.kl(*self.encoder(ends)).view(2, -1).mean(1).sum()
        (through_encoder,) = gradient(kl_loss, ends)
        one = self.torch.ones_like(reconstruction)
        self.apply(1, gradient([reconstruction, images], self.learnt[1], [one, through_encoder]))
        return loss.item()


def measure_torch(what: str, objective: str, implementation: str, threads: int, clock) -> dict:
    "A training step or the encoder, in PyTorch."
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as TensorFlow does
    channels_last, compiled = "channels-last" in implementation, "compile" in implementation
    model = TorchModel(objective, channels_last, compiled)
    count = ENCODED if what == "encode" else BATCH
    volumes = torch.from_numpy(volumes_of_noise(count).reshape(count, 1, 40, 48, 40))
    if channels_last:
        volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    if what == "encode":
        model.encoder.eval()
        with torch.inference_mode():
            taken = median_seconds(lambda: model.encoder(volumes)[0].numpy(), clock)
        return {"seconds_per_scan": taken / count}
    step = model.vae_step if objective == "vae" else model.introvae_step
    return {
        "seconds_per_scan": median_seconds(lambda: step(volumes), clock) / BATCH,
        "peak_mb": peak_mb(),
    }


# The measurements, one process each


def measure(what: str, objective: str, implementation: str, threads: int, prepared: str) -> list:
    "One measurement in this process: its rows."
    clock = time.process_time if threads == 1 else time.perf_counter
    if what == "epochs":
        return measure_epochs(objective, Path(prepared))
    function = measure_keras if implementation in KERAS else measure_torch
    return [{"what": what, **function(what, objective, implementation, threads, clock)}]


def environment(implementation: str, threads: int, isa: str, folder: Path) -> dict:
    "What the process of a measurement finds in its environment."
    ours = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA")
    found = {name: value for name, value in os.environ.items() if name not in ours}
    found |= {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    found["TORCHINDUCTOR_CACHE_DIR"] = str(
        folder / "inductor"
    )  # not what was compiled for another instruction set
    if isa != "native":  # PyTorch's own loops, MKL and torch.compile have a limit of their own
        found |= {
            "ONEDNN_MAX_CPU_ISA": isa,
            "ATEN_CPU_CAPABILITY": isa.lower(),
            "MKL_ENABLE_INSTRUCTIONS": isa,
        }
    if implementation == "keras-default" and isa != "native":
        found["TF_ENABLE_ONEDNN_OPTS"] = (
            "0"  # TensorFlow asks the processor, which does not know of the limit
        )
    elif implementation != "keras-default":
        found["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as msvae_nbdev sets it
    return found


def run_process(
    what: str, objective: str, implementation: str, threads: int, isa: str, folder: Path
) -> list:
    "Make one measurement in a process of its own. Where torch.compile does not work, its row says so."
    measurement = [what, objective, implementation, str(folder / "prepared")]
    command = [sys.executable, __file__, "--measure", *measurement, "--threads", str(threads)]
    load, variables = (
        round(os.getloadavg()[0], 1),
        environment(implementation, threads, isa, folder),
    )
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode == 0:
        rows = json.loads(done.stdout.splitlines()[-1])
    elif "compile" in implementation:
        lines = [
            line.strip()
            for line in done.stderr.splitlines()
            if "Error" in line or "Exception" in line
        ]
        rows = [{"what": what, "note": "torch.compile: " + (lines or ["failed"])[-1][:200]}]
    else:
        raise SystemExit(done.stderr)
    return [
        {"objective": objective, "implementation": implementation, "load": load, **row}
        for row in rows
    ]


def benchmark(rounds: int, threads: int, isa: str) -> None:
    "All measurements, so many times; the table is written after each round."
    import pandas as pd

    from msvae_nbdev.core import atomic_path
    from msvae_nbdev.model.networks import processor
    from msvae_nbdev.phantom.simulate import simulate

    setting = {"processor": processor()["model"], "isa": isa, "threads": threads}
    versions = {name: version(name) for name in ("keras", "tensorflow", "torch")}
    columns = [*setting, *MEASURED, *versions]
    before = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=columns)
    before = before[(before[list(setting)] != pd.Series(setting)).any(axis=1)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "prepared", prepared=True, scale=0.1, seed=1)
        for number in range(1, rounds + 1):
            for group in GROUPS:
                turn = (number - 1) % len(group)
                for measurement in group[turn:] + group[:turn]:
                    for row in run_process(*measurement, threads, isa, Path(folder)):
                        rows.append({**setting, "round": number, **row, **versions})
                        print(rows[-1], flush=True)
            with atomic_path(TABLE) as temporary:
                table = pd.DataFrame(rows, columns=columns)
                table = pd.concat([before, table]) if len(before) else table
                table.to_csv(temporary, index=False, float_format="%.5g")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each measurement is made")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--threads", type=int, default=cores, help="cores to use; 1: processor time, not the clock"
    )
    parser.add_argument(
        "--isa", default="native", help="AVX2: keep all libraries to these instructions"
    )
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        what, objective, implementation, prepared = asked.measure
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.threads])
        with contextlib.redirect_stdout(sys.stderr):
            rows = measure(what, objective, implementation, asked.threads, prepared)
        print(json.dumps(rows))
    else:
        benchmark(asked.rounds, asked.threads, asked.isa)
