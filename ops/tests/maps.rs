//! Operations on maps whose channels are last are those on maps whose channels come first: values and all gradients.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use support::Random;
use vqlc_ops::tensor::{self, Maps, Order, Residual, Window};

const EPS: f64 = 1e-6;

/// The result of `f` as maps `[b, c, h, w]`, and the gradients of a weighting of it at maps and parameters.
fn run(order: Order, vars: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f32>> {
    let mut arguments: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let x = order.of_channels_first(&arguments[0]).unwrap();
    arguments[0] = x.contiguous().unwrap();
    let y = order.to_channels_first(&f(&arguments).unwrap()).unwrap();
    let weights = var(&mut Random(5), y.dims());
    let sum = (&y * weights.as_tensor()).unwrap().sum_all().unwrap();
    let gradients = sum.backward().unwrap();
    let mut out = vec![y];
    out.extend(vars.iter().map(|var| gradients.get(var).unwrap().clone()));
    let numbers = |t: Tensor| t.flatten_all()?.to_vec1();
    out.into_iter().map(|t| numbers(t).unwrap()).collect()
}

fn var(random: &mut Random, shape: &[usize]) -> Var {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| random.normal())
        .collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn same(what: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor], Order) -> Result<Tensor>) {
    let mut random = Random(3);
    let vars: Vec<Var> = shapes.iter().map(|shape| var(&mut random, shape)).collect();
    let [first, last] =
        [Order::ChannelsFirst, Order::ChannelsLast].map(|order| run(order, &vars, |t| f(t, order)));
    // On the CPU they are computed by the same code.
    assert!(first == last, "{what}");
    assert!(
        first.iter().flatten().any(|&number| number != 0.0),
        "{what}"
    );
}

fn maps(order: Order) -> Maps {
    Maps {
        compute: DType::F32,
        order,
    }
}

#[test]
fn every_operation_takes_both_orders() {
    let x: &[usize] = &[2, 4, 6, 10];
    let window = Window {
        stride: 2,
        padding: (0, 1),
    };
    same("conv2d", &[x, &[8, 4, 3, 3], &[8]], |t, order| {
        tensor::conv2d(&t[0], &t[1], Some(&t[2]), window, maps(order))
    });
    same("group_norm", &[x, &[4], &[4]], |t, order| {
        tensor::group_norm(&t[0], &t[1], &t[2], 2, EPS, true, order)
    });
    same("batch_norm_train", &[x, &[4], &[4]], |t, order| {
        Ok(tensor::batch_norm_train(&t[0], &t[1], &t[2], EPS, order)?.0)
    });
    same("upsample2", &[x], |t, order| {
        tensor::upsample2(&t[0], order)
    });
    same("max_pool2", &[x], |t, order| {
        tensor::max_pool2(&t[0], order)
    });
    let (kernel, short): (&[usize], &[usize]) = (&[6, 4, 3, 3], &[6, 4, 1, 1]);
    let block: [&[usize]; 11] = [
        x,
        &[4],
        &[4],
        kernel,
        &[6],
        &[6],
        &[6],
        &[6, 6, 3, 3],
        &[6],
        short,
        &[6],
    ];
    same("residual", &block, |t, order| {
        let pair = |at: usize| [&t[at], &t[at + 1]];
        let block = Residual {
            norm1: pair(1),
            conv1: pair(3),
            norm2: pair(5),
            conv2: pair(7),
            shortcut: Some(pair(9)),
            groups: [2, 3],
            eps: EPS,
            maps: maps(order),
        };
        tensor::residual(&t[0], &block)
    });
}

#[test]
fn statistics_are_those_of_the_channels() {
    let mut random = Random(9);
    let x = var(&mut random, &[2, 3, 4, 5]);
    let ones = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let of = |order: Order| {
        let x = order.of_channels_first(&x).unwrap().contiguous().unwrap();
        let (_, mean, variance) = tensor::batch_norm_train(&x, &ones, &ones, EPS, order).unwrap();
        [mean, variance].map(|t| t.to_vec1::<f32>().unwrap())
    };
    assert_eq!(of(Order::ChannelsFirst), of(Order::ChannelsLast));
}

#[test]
fn what_enters_leaves_as_it_was() {
    let mut random = Random(1);
    let x = var(&mut random, &[2, 3, 4, 5]);
    for (order, shape) in [
        (Order::ChannelsFirst, [2, 3, 4, 5]),
        (Order::ChannelsLast, [2, 4, 5, 3]),
    ] {
        let inside = maps(order).enter(&x).unwrap();
        assert_eq!(inside.dims(), shape);
        assert_eq!(inside.dim(order.channels()).unwrap(), 3);
        assert_eq!(order.plane().map(|dim| inside.dim(dim).unwrap()), [4, 5]);
        assert!(inside.is_contiguous());
        let left = maps(order).leave(&inside).unwrap();
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers(&left), numbers(&x));
        assert_eq!(left.dims(), x.dims());
    }
}
