//! The residual block beside the layers it is made of: values and all gradients.

mod support;

use candle_core::{DType, Device, Tensor, Var};
use vqlc_ops::tensor::{
    Maps, Order, Residual, Window, add, bf16_on_cpu, conv2d, group_norm, residual,
};

const EPS: f64 = 1e-6;

/// The parameters of a block, in the order of [`Residual`]'s fields.
struct Block {
    parameters: Vec<Var>,
    groups: [usize; 2],
}

impl Block {
    fn new(
        random: &mut support::Random,
        inputs: usize,
        outputs: usize,
        groups: [usize; 2],
    ) -> Self {
        let mut shapes = vec![
            vec![inputs],
            vec![inputs],
            vec![outputs, inputs, 3, 3],
            vec![outputs],
            vec![outputs],
            vec![outputs],
            vec![outputs, outputs, 3, 3],
            vec![outputs],
        ];
        if inputs != outputs {
            shapes.extend([vec![outputs, inputs, 1, 1], vec![outputs]]);
        }
        let parameters = shapes.iter().map(|shape| var(random, shape)).collect();
        Self { parameters, groups }
    }

    fn of(&self, x: &Tensor, compute: DType) -> Tensor {
        let pair = |at: usize| [0, 1].map(|i| self.parameters[at + i].as_tensor());
        let block = Residual {
            norm1: pair(0),
            conv1: pair(2),
            norm2: pair(4),
            conv2: pair(6),
            shortcut: (self.parameters.len() > 8).then(|| pair(8)),
            groups: self.groups,
            eps: EPS,
            maps: Maps::channels_first(compute),
        };
        residual(x, &block).unwrap()
    }

    fn layers(&self, x: &Tensor, compute: DType) -> Tensor {
        let p = &self.parameters;
        let layer = |x: &Tensor, at: usize, groups: usize| {
            let normal = group_norm(
                x,
                &p[at],
                &p[at + 1],
                groups,
                EPS,
                true,
                Order::ChannelsFirst,
            )
            .unwrap();
            conv2d(
                &normal,
                &p[at + 2],
                Some(&p[at + 3]),
                Window::same(1),
                Maps::channels_first(compute),
            )
            .unwrap()
        };
        let h = layer(&layer(x, 0, self.groups[0]), 4, self.groups[1]);
        if p.len() == 8 {
            return add(x, &h).unwrap();
        }
        let beside = conv2d(
            x,
            &p[8],
            Some(&p[9]),
            Window::same(0),
            Maps::channels_first(compute),
        )
        .unwrap();
        add(&beside, &h).unwrap()
    }
}

fn var(random: &mut support::Random, shape: &[usize]) -> Var {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.normal())
        .collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The greatest difference, of the root of the mean square.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let scalar = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
    let worst = (found - expected)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap();
    let square = scalar(expected.sqr().unwrap().mean_all().unwrap());
    scalar(worst.max(0).unwrap()) / square.sqrt().max(1e-30)
}

#[test]
fn one_operation_is_its_layers() {
    let mut computes = vec![DType::F32];
    if bf16_on_cpu() {
        computes.push(DType::BF16);
    }
    let mut random = support::Random(7);
    for (batch, inputs, outputs, groups, size) in [
        (3, 8, 8, [2, 2], (6, 10)),
        (2, 16, 40, [4, 10], (16, 32)),
        (1, 4, 12, [1, 3], (5, 7)),
    ] {
        let block = Block::new(&mut random, inputs, outputs, groups);
        let x = var(&mut random, &[batch, inputs, size.0, size.1]);
        let weight = var(&mut random, &[batch, outputs, size.0, size.1]);
        for &compute in &computes {
            let (found, expected) = (block.of(&x, compute), block.layers(&x, compute));
            let wrong = error(&found, &expected);
            assert!(
                wrong < 1e-6,
                "{inputs} to {outputs}, {compute:?}: value {wrong}"
            );
            let store = |y: &Tensor| {
                let loss = (y * weight.as_tensor()).unwrap().sum_all().unwrap();
                loss.backward().unwrap()
            };
            let (found, expected) = (store(&found), store(&expected));
            for (at, parameter) in block.parameters.iter().chain([&x]).enumerate() {
                let wrong = error(
                    found.get(parameter.as_tensor()).unwrap(),
                    expected.get(parameter.as_tensor()).unwrap(),
                );
                assert!(
                    wrong < 1e-5,
                    "{inputs} to {outputs}, {compute:?}: gradient {at}: {wrong}"
                );
            }
        }
    }
}

#[test]
fn channels_that_change_need_a_shortcut() {
    let mut random = support::Random(1);
    let mut block = Block::new(&mut random, 4, 8, [1, 2]);
    block.parameters.truncate(8);
    let x = var(&mut random, &[1, 4, 4, 4]);
    let pair = |at: usize| [0, 1].map(|i| block.parameters[at + i].as_tensor());
    let asked = Residual {
        norm1: pair(0),
        conv1: pair(2),
        norm2: pair(4),
        conv2: pair(6),
        shortcut: None,
        groups: [1, 2],
        eps: EPS,
        maps: Maps::channels_first(DType::F32),
    };
    assert!(residual(&x, &asked).is_err());
}

/// Value and gradients to the bit, on one thread and on three.
#[test]
fn threads_change_nothing() {
    let mut random = support::Random(3);
    let block = Block::new(&mut random, 16, 40, [4, 10]);
    let x = var(&mut random, &[3, 16, 20, 36]);
    let computes = [DType::F32, DType::BF16];
    for compute in computes.into_iter().take(1 + usize::from(bf16_on_cpu())) {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let y = block.of(&x, compute);
                let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let parameters = block.parameters.iter().chain([&x]);
                let gradients = parameters.map(|p| store.get(p.as_tensor()).unwrap().clone());
                let all: Vec<Tensor> = gradients.chain([y]).collect();
                let bits = |t: &Tensor| {
                    let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                all.iter().map(bits).collect::<Vec<_>>()
            })
        };
        assert_eq!(run(1), run(3), "{compute:?}");
    }
}
