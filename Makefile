# Slipway. `make demo` runs the main job, `make test` the tests; both set up what is missing. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

WORK ?= work
DEVICE ?= auto
# A number of GPUs: as many processes train.
PROCESSES ?= $(filter-out all device=%,$(GPUS))
SHAPE ?= dynamic

RUN ?= local
PYTHON = .venv/bin/python
READY = .venv/ready
# The same in a container: docker/run.sh IMAGE takes Python's arguments. It mounts what these variables name.
ifeq ($(RUN),docker)
READY =
PYTHON = docker/run.sh $(IMAGE)
IMAGE = deploy
train-% data-% look-data experiments: IMAGE = train
export WORK OUT CONFIG DATA LOAD_FROM CHECKPOINT CALIBRATION BENCH GATES BUNDLE IMAGES VIDEO A B GPUS DOCKER_BUILD DOCKER_RUN
else ifneq ($(RUN),local)
$(error RUN=$(RUN): expected local or docker)
endif
# The folder of wheels that .venv was installed from, if any.
WHEELS ?= $(shell cat .venv/ready 2>/dev/null)
WANTED = $(or $(wildcard $(WHEELS:%=%/requirements.txt)),requirements/dev.txt)
UV := $(shell command -v uv || echo .uv/bin/uv)
# CONFIG= is the path of your own config, EXP= names an experiment of configs/train. Without either, a task has its demo,
# and the rooms after export take the newest bundle.
DEMO_cls = cls/resnet18_digits
DEMO_seg = seg/pspnet-r18_digits
DEMO_det = det/rtmdet-tiny_digits
NEWEST = $(patsubst $(WORK)/%/bundle,%,$(firstword $(shell ls -td $(WORK)/*/*/bundle 2>/dev/null)))
CHOSEN = $(or $(CONFIG),$(EXP),$(if $*,$(DEMO_$*),$(or $(NEWEST),$(DEMO_cls))),\
  $(error make $@ has no experiment of its own: name one with EXP= (`make experiments` lists them) or CONFIG=))

# One flag for each variable that is set.
flag = $(if $($(1)),$(2) $(3))
TRAIN_FLAGS = --work $(WORK) --device $(DEVICE) $(call flag,DATA,--data,$(DATA)) $(call flag,LOAD_FROM,--load-from,$(LOAD_FROM)) \
  $(call flag,RESUME,--resume) $(call flag,FORCE,--force) $(call flag,SKIP_BAD,--skip-bad) $(call flag,TRUST,--trust-checkpoint) \
  $(call flag,PROCESSES,--processes,$(PROCESSES)) $(call flag,NODES,--nodes,$(NODES)) \
  $(call flag,NODE_RANK,--node-rank,$(NODE_RANK)) $(call flag,MASTER,--master,$(MASTER)) \
  $(call flag,JSON,--json) $(call flag,OPTIONS,--cfg-options,$(OPTIONS))
EXPORT_FLAGS = --work $(WORK) --shape $(SHAPE) $(call flag,CHECKPOINT,--checkpoint,$(CHECKPOINT)) $(call flag,DATA,--data,$(DATA)) \
  $(call flag,FORCE,--force) $(call flag,SKIP_BAD,--skip-bad) $(call flag,TRUST,--trust-checkpoint) $(call flag,JSON,--json) \
  $(call flag,OPTIONS,--cfg-options,$(OPTIONS)) $(call flag,PRECISION,--precision,$(PRECISION)) \
  $(call flag,CALIBRATION,--calibration,$(CALIBRATION)) $(call flag,GATE,--gate,$(GATE))
ENGINE_FLAGS = --work $(WORK) $(call flag,PRECISION,--precision,$(PRECISION)) $(call flag,BATCH,--batch,$(BATCH)) \
  $(addprefix --size ,$(SIZE)) $(call flag,WORKSPACE,--workspace,$(WORKSPACE)) $(call flag,LEVEL,--level,$(LEVEL)) \
  $(call flag,TF32,--tf32) $(call flag,VERSION_COMPATIBLE,--version-compatible) \
  $(call flag,HARDWARE,--hardware-compatible,$(HARDWARE)) $(call flag,FORCE,--force) $(call flag,JSON,--json)
# One GPU has a matrix of its own.
BENCH ?= $(if $(filter cuda,$(DEVICE)),configs/bench/cuda.yaml)
BENCH_FLAGS = --work $(WORK) $(if $(filter-out auto,$(DEVICE)),--device $(DEVICE)) $(call flag,BENCH,--config,$(BENCH)) \
  $(call flag,GATES,--gates,$(GATES)) $(call flag,FORCE,--force) $(call flag,JSON,--json)
NATIVE_SOURCE = deploy/native
BUILD = .build/native
CPP = $(wildcard $(NATIVE_SOURCE)/*/*.cpp $(NATIVE_SOURCE)/*/*.hpp tests/native/*.cpp)
CPP_STYLE = --style=file:$(NATIVE_SOURCE)/.clang-format
SECONDS_EACH ?= 60
CLANG ?= clang++
# The library of the Python package, where it is there: both runtimes then run the same ONNX Runtime.
CMAKE_FLAGS = -DORT_WHEEL=$(abspath $(wildcard .venv/lib/python3*/site-packages/onnxruntime)) $(if $(ORT_ROOT),-DORT_ROOT=$(abspath $(ORT_ROOT)))

.PHONY: help experiments readme setup wheels demo data-% look-data train-% export-% convert verify zoo engine-% bench bench-diff audit bench-folder images shell-% sbom audit-deps infer native fuzz fuzz-python fuzz-native splash models-table pooling-proof test test-all test-gpu test-docker test-faults lint format requirements schema clean

help: ## list the verbs and their variables
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@printf '\nvariables (defaults):\n'
	@printf '  %s\n' \
	  'EXP=cls/resnet18_digits     an experiment of configs/train (`make experiments`); default: the embedded one of the task;' \
	  '                            for bench, verify and infer the newest bundle' \
	  'CONFIG=path.py              your own MMEngine config instead' \
	  'DATA=dir                    your own images instead of the source'"'"'s own (train; export with CHECKPOINT)' \
	  'LOAD_FROM=x.pth             fine-tune from a checkpoint (train)' \
	  'GPUS=8 NODES=2 NODE_RANK=0 MASTER=host:port   train with a process a GPU, on several machines; PROCESSES=2 without GPUs' \
	  'CHECKPOINT=x.pth            a checkpoint trained elsewhere, .pth or .safetensors (export; convert)' \
	  'SHAPE=$(SHAPE)               static | batch | dynamic (export)' \
	  'PRECISION="fp16 int8"       graphs to add to the bundle (export); engines to build (engine); the one to predict with (infer)' \
	  'CALIBRATION=dir GATE=99     other images than the training set'"'"'s, percent of fp32'"'"'s score to reach (export)' \
	  'ONLY="ATSS,Mask*" JOBS=4    models, packages or globs; how many at once (zoo)' \
	  'BATCH=1:1:8 SIZE=512x1024    what an engine takes: N or MIN:OPT:MAX; HxW or MINHxW:OPTHxW:MAXHxW, several for several profiles' \
	  'WORKSPACE=MiB LEVEL=3 TF32=1 VERSION_COMPATIBLE=1 HARDWARE=same    of engines: see docs/engines.md' \
	  'DEVICE=$(DEVICE)                 cpu | cuda | auto' \
	  'OPTIONS="a.b=1 c.d=2"       overrides of config keys' \
	  'BENCH=file.yaml             what to measure (configs/bench); with DEVICE=cuda: cuda.yaml' \
	  'GATES=file.yaml             what must hold (bench, bench-diff)' \
	  'BUNDLE=dir IMAGES=paths     what to predict with, and on (infer, splash)' \
	  'VIDEO=clip CLASS=names      what to splash, and which classes stay in colour (default: all; splash)' \
	  'SCORE=0.3                   show detections from here on (infer, splash)' \
	  'OUT=dir OPACITY=0.5         where to write drawings and label maps, and how strong (infer)' \
	  'NATIVE=1 ORT_ROOT=dir       predict with ort_infer (infer); the ONNX Runtime it is built with (native)' \
	  'RUN=docker GPUS=all         run the verb in its container, with GPUs (docs/containers.md)' \
	  'WORK=$(WORK)                   where data, experiments and results lie' \
  'WHEELS=dir                  set .venv up from a folder of wheels (every verb); TENSORRT= FOR= HAS= say which (wheels)' \
	  'RESUME=1 FORCE=1 SKIP_BAD=1 TRUST=1 JSON=1    see --help of each room'

setup: $(READY) ## make .venv (every other verb does so when it is missing)

.venv/ready: $(WANTED) deploy/runtime/pyproject.toml $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv) \
  $(if $(filter-out $(shell cat .venv/ready 2>/dev/null),$(WHEELS)),ANEW)
ifneq ($(WHEELS),)
	@echo "setting up .venv from $(WHEELS)" >&2
	@python3 requirements/wheels.py install $(WHEELS) --uv $(UV)
else
	@echo "setting up .venv (about 5 GB: torch brings its CUDA libraries)" >&2
	@$(UV) venv --quiet --allow-existing --python '>=3.11,<3.13' .venv
	@$(UV) pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes --only-binary :all: requirements/dev.txt
endif
	@$(UV) pip install --quiet $(if $(WHEELS),--offline) --python .venv/bin/python --no-deps --no-build-isolation --editable deploy/runtime
	@echo $(WHEELS) > $@

.uv/bin/uv: requirements/uv.txt
	@echo "fetching uv" >&2
	@python3 -m venv .uv || { rm -rf .uv; echo "error: python3 has no venv; install it (Debian: apt-get install python3-venv) or uv" >&2; exit 4; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check $(if $(WHEELS),--no-index --find-links $(WHEELS)) \
	  --require-hashes --only-binary :all: -r requirements/uv.txt
	@touch $@

.PHONY: ANEW
ANEW:

wheels: $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv) ## wheels for a GPU machine without a network: OUT=dir [TENSORRT= FOR=3.12 HAS=freeze.txt]
	@python3 requirements/wheels.py collect $(or $(OUT),$(error OUT= names no folder)) --uv $(UV) $(call flag,TENSORRT,--tensorrt,$(TENSORRT)) \
	  $(call flag,FOR,--for,$(FOR)) $(call flag,HAS,--has,$(HAS))

demo: $(READY) ## the main job on the embedded data set: train, export, verify, measure
	@$(MAKE) train-cls EXP=$(DEMO_cls)
	@$(MAKE) export-cls EXP=$(DEMO_cls) PRECISION=int8
	@$(MAKE) bench EXP=$(DEMO_cls) BENCH=configs/bench/quick.yaml
	@$(MAKE) infer EXP=$(DEMO_cls) IMAGES="$$(printf '%s ' $(WORK)/data/digits/val/7/00*)"

experiments: $(READY) ## list the experiments
	@$(PYTHON) -m train --list

data-%: $(READY) ## prepare a data source: data-digits, data-imagefolder DATA=…
	@$(PYTHON) -m train.data $* --out $(WORK)/data/$* $(call flag,DATA,--from,$(DATA)) $(call flag,SKIP_BAD,--skip-bad)

train-%: $(READY) ## images → checkpoint: train-cls EXP=… [DATA= LOAD_FROM= OPTIONS= RESUME=1]
	@$(PYTHON) -m train $(CHOSEN) $(TRAIN_FLAGS)

export-%: $(READY) ## checkpoint → verified bundle: export-cls EXP=… [SHAPE= CHECKPOINT= DATA= PRECISION="fp16 int8" CALIBRATION=]
	@$(PYTHON) -m deploy export $(CHOSEN) $(EXPORT_FLAGS)

convert: ## a checkpoint that may run code → its weights alone, in a container without a network: CHECKPOINT=x.pth OUT=dir
	@WORK=$(or $(OUT),$(error OUT= names no folder)) docker/run.sh deploy -m train.convert --trust-checkpoint \
	  $(or $(CHECKPOINT),$(error CHECKPOINT= names no file)) $(OUT)/$(basename $(notdir $(CHECKPOINT))).safetensors

verify: $(READY) ## compare a bundle once more with its model: EXP=…
	@$(PYTHON) -m deploy verify $(CHOSEN) --work $(WORK) $(call flag,JSON,--json)

zoo: $(READY) ## which models export, equal to PyTorch: configs/zoo.yaml; all of it writes docs/supported-models.md [ONLY= JOBS= FORCE=1 MMDEPLOY=1]
	@$(PYTHON) -m deploy zoo --work $(WORK) $(call flag,ONLY,--only,"$(ONLY)") $(call flag,JOBS,--jobs,$(JOBS)) $(call flag,FORCE,--force) \
	  $(call flag,MMDEPLOY,--mmdeploy) $(call flag,JSON,--json)

engine-%: $(READY) ## bundle → TensorRT engines for this machine's GPU: engine-cls EXP=… [PRECISION="fp32 fp16 int8" BATCH= SIZE= …]
	@$(PYTHON) -m deploy engine $(CHOSEN) $(ENGINE_FLAGS)

bench: $(READY) ## bundle → speed and accuracy against PyTorch: EXP=… [BENCH= DEVICE=]
	@$(PYTHON) -m benchmarks run $(CHOSEN) $(BENCH_FLAGS)

bench-diff: $(READY) ## compare two results, and fail where something got worse: A=before B=after [GATES= JSON=1]
	@$(PYTHON) -m benchmarks diff $(or $(A),$(error A= names no results of before)) $(or $(B),$(error B= names none of after)) \
	  $(call flag,GATES,--gates,$(GATES)) $(call flag,JSON,--json)

audit: $(READY) ## can the benchmark be believed: do timed calls answer, compute each time, and wait? EXP=… [BENCH= DEVICE=]
	@$(PYTHON) -m benchmarks audit $(CHOSEN) --work $(WORK) $(if $(filter-out auto,$(DEVICE)),--device $(DEVICE)) \
	  $(call flag,BENCH,--config,$(BENCH)) $(call flag,JSON,--json)

bench-folder: $(READY) ## whole folders, files → predictions: ort_infer, slipway_runtime and PyTorch: EXP="A B" [ROUNDS= COUNT=]
	@$(PYTHON) -m benchmarks.folder $(CHOSEN) --work $(WORK) $(call flag,ROUNDS,--rounds,$(ROUNDS)) $(call flag,COUNT,--images,$(COUNT)) \
	  $(call flag,JSON,--json)

PREDICT = $(if $(filter docker,$(RUN)),docker/run.sh runtime,$(if $(NATIVE),$(BUILD)/ort_infer,$(PYTHON) -m slipway_runtime))
infer: $(if $(NATIVE),$(if $(filter local,$(RUN)),native),$(READY)) ## predict: IMAGES=images, folders or videos [BUNDLE= EXP= PRECISION= ENGINE= OUT= SCORE= OPACITY= JSON=1 NATIVE=1]
	@$(PREDICT) $(or $(BUNDLE),$(WORK)/$(CHOSEN)/bundle) \
	  $(or $(IMAGES),$(error IMAGES= names no image or folder)) \
	  $(if $(filter-out auto,$(DEVICE)),--device $(DEVICE)) $(call flag,OUT,--out,$(OUT)) $(call flag,OPACITY,--opacity,$(OPACITY)) \
	  $(call flag,SCORE,--score,$(SCORE)) $(call flag,PRECISION,--precision,$(PRECISION)) $(call flag,ENGINE,--engine,$(ENGINE)) \
  $(call flag,JSON,--json)

native: ## build ort_infer, the runtime in C++, in .build/native [ORT_ROOT=]
	@command -v cmake > /dev/null || { echo "error: cmake is missing; on Debian: apt-get install --no-install-recommends $$(tr '\n' ' ' < $(NATIVE_SOURCE)/packages.txt)"; exit 4; } >&2
	@cmake -S $(NATIVE_SOURCE) -B $(BUILD) $(CMAKE_FLAGS) $(CMAKE_MORE) --log-level=NOTICE > /dev/null
	@cmake --build $(BUILD) --parallel $(shell nproc)
	@echo "wrote $(BUILD)/ort_infer; next: make infer NATIVE=1 BUNDLE=… IMAGES=…"

fuzz: fuzz-python fuzz-native ## try what nobody would write on everything that reads files

fuzz-python: $(READY) ## let atheris try manifests and annotation files on the parsers in Python, SECONDS_EACH=60
	@for name in manifest coco via labelme; do folder=.build/fuzz-python/$$name; mkdir -p $$folder; \
	  echo "$$folder, $(SECONDS_EACH) s" >&2; \
	  .venv/bin/python tests/fuzz/parsers.py $$name -max_total_time=$(SECONDS_EACH) -timeout=10 -rss_limit_mb=4096 \
	    -print_final_stats=1 -artifact_prefix=$$folder.found- $$folder; done

fuzz-native: ## let libFuzzer try manifests and images on ort_infer, SECONDS_EACH=60 (needs clang: CLANG=clang++)
	@command -v $(CLANG) > /dev/null || { echo "error: $(CLANG) is missing; name a clang++ of yours with CLANG=" >&2; exit 4; }
	@cmake -S $(NATIVE_SOURCE) -B $(BUILD)-fuzz $(CMAKE_FLAGS) -DSLIPWAY_FUZZ=ON -DCMAKE_CXX_COMPILER=$(CLANG) --log-level=NOTICE > /dev/null
	@cmake --build $(BUILD)-fuzz --parallel $(shell nproc)
	@for source in $(NATIVE_SOURCE)/fuzz/*.cpp; do name=$$(basename $$source .cpp); fuzzer=$(BUILD)-fuzz/fuzz_$$name; \
	  echo "$$fuzzer, $(SECONDS_EACH) s" >&2; mkdir -p $$fuzzer.corpus; \
	  for seed in $(NATIVE_SOURCE)/fuzz/seeds/$$name/*; do case $$seed in \
	    *.base64) base64 -d $$seed > $$fuzzer.corpus/$$(basename $$seed .base64) ;; *) cp $$seed $$fuzzer.corpus ;; esac; done; \
	  $$fuzzer -max_total_time=$(SECONDS_EACH) -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=$$fuzzer.found- $$fuzzer.corpus; done

images: ## build the images of containers: slipway-train, slipway-deploy, slipway-runtime
	@docker/run.sh all

shell-%: ## a shell in a container: shell-train, shell-deploy, shell-runtime
	@DOCKER_RUN="--interactive --tty --entrypoint bash $(DOCKER_RUN)" docker/run.sh $*

sbom: $(READY) ## what is in each image: SPDX JSON in .build/sbom, checked against the image (make images comes first)
	@.venv/bin/python docker/sbom.py train deploy runtime

audit-deps: $(READY) ## is each requirement hashed, its licence allowed (requirements/licences.toml), and no advisory against it? [OSV=url ACCEPT="CVE-… GHSA-…"]
	@.venv/bin/python requirements/audit.py requirements/*.txt $(call flag,OSV,--service,$(OSV)) $(addprefix --accept ,$(ACCEPT))

splash: $(READY) ## all but what is found in grey: VIDEO=clip or IMAGES=… [BUNDLE= EXP= OUT= SCORE= CLASS=]
	@$(PYTHON) -m slipway_runtime $(or $(BUNDLE),$(WORK)/$(CHOSEN)/bundle) \
	  $(or $(strip $(VIDEO) $(IMAGES)),$(error VIDEO= names no video; IMAGES= would do too)) --splash \
	  --out $(or $(OUT),$(WORK)/splash) $(if $(filter-out auto,$(DEVICE)),--device $(DEVICE)) \
	  $(call flag,SCORE,--score,$(SCORE)) $(addprefix --class ,$(CLASS))

look-data: $(READY) ## draw a prepared set's images with their labels: DATA=work/data/NAME [SPLIT=val]
	@$(PYTHON) -m train.data.look $(or $(DATA),$(error DATA= names no prepared set)) $(call flag,SPLIT,--split,$(SPLIT)) \
	  $(call flag,JSON,--json)

test: $(READY) ## the tests
	@$(PYTHON) -m pytest -m 'not slow and not gpu and not docker and not faults' $(ARGS)

test-all: $(READY) ## the tests, slow ones too
	@$(PYTHON) -m pytest -m 'not gpu and not docker and not faults' $(ARGS)

test-gpu: $(READY) ## the tests that need an NVIDIA GPU
	@$(PYTHON) -c 'import sys; from benchmarks import nvml; sys.exit(not nvml.handles())' \
	  || { echo "error: no NVIDIA GPU, or no driver that tells of it; look at nvidia-smi" >&2; exit 4; }
	@$(PYTHON) -m pytest -m gpu $(ARGS)

test-docker: $(READY) ## the tests that build images and run containers
	@$(PYTHON) -m pytest -m docker $(ARGS)

test-faults: $(READY) ## kill, fill, corrupt: the tests of docs/reliability.md, which SLIPWAY_WRITE_DOCS=1 writes
	@$(PYTHON) -m pytest $(if $(findstring tests/,$(ARGS)),,tests/faults) $(ARGS)

lint: $(READY) ## ruff, the type checker and clang-format
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/clang-format $(CPP_STYLE) --dry-run -Werror $(CPP)
	@.venv/bin/mypy

format: $(READY) ## let ruff and clang-format mend what they can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .
	@.venv/bin/clang-format $(CPP_STYLE) -i $(CPP)

schema: $(READY) ## write docs/manifest.schema.json
	@$(PYTHON) -m slipway_runtime.schema > docs/manifest.schema.json

models-table: $(READY) ## write docs/segmentation-models.md and, with SLIPWAY_DATA, docs/detection-models.md (an hour)
	@SLIPWAY_WRITE_DOCS=1 $(PYTHON) -m pytest -q -m slow tests/deploy/test_segmentation_models.py tests/deploy/test_detection_models.py

pooling-proof: $(READY) ## write docs/adaptive-pooling.md: exactness proved, its cost measured
	@$(PYTHON) -m benchmarks.pooling

readme: $(READY) ## write the table of benchmarks/results into README.md
	@$(PYTHON) -m benchmarks report benchmarks/results --into README.md

requirements: ## compile requirements/*.in anew, with hashes
	@cd requirements && for set in dev deploy train; do \
	  $(abspath $(UV)) pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	    --override overrides.in $$([ $$set = dev ] || echo --constraint dev.txt) $$set.in -o $$set.txt; done; \
	  $(abspath $(UV)) pip compile --quiet --universal --python-version 3.10 --generate-hashes --only-binary :all: runtime.in -o runtime.txt; \
	  compile="$(abspath $(UV)) pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: --constraint dev.txt"; \
	  $$compile --no-deps native.in -o native.txt; \
	  sed -nE 's/^onnxruntime(==[^ ]+).*/onnxruntime-gpu\1/p' dev.txt | $$compile --constraint - \
	    $$(printf -- '--no-emit-package %s ' flatbuffers numpy packaging protobuf) native-cuda.in -o native-cuda.txt; \
	  sed -nE 's/^onnxruntime(==[^ ]+).*/onnxruntime-gpu\1/p' dev.txt | $$compile --override overrides.in --override overrides-gpu.in \
	    --constraint - gpu.in -o gpu.txt; \
	  for version in 10.16.1.11 11.4.0.106; do $$compile --no-deps tensorrt-$$version.in -o tensorrt-$$version.txt; done; \
	  $(abspath $(UV)) pip compile --quiet --universal --python-version 3.10 --generate-hashes --only-binary :all: \
	    --constraint runtime.txt --constraint uv.txt tensorrt-8.6.0.in -o tensorrt-8.6.0.txt; \
	  $(abspath $(UV)) pip compile --quiet --universal --python-version 3.9 --generate-hashes --only-binary :all: uv.in -o uv.txt

clean: ## remove caches and what was built; data, work and .venv stay
	@rm -rf .build .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.uv/*' -prune -exec rm -rf {} +
